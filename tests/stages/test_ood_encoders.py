"""`domix ood` for any encoder: classifiers, features before the last layer, training images, probes, chosen options."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from domix.analyses.ood.images import deal_parts
from domix.analyses.sae.names import vocabulary
from domix.cli.detection.sets import open_foreign, open_known, open_training
from domix.data.store.index import read_index, write_index
from domix.embed.clip import open_subject
from domix.embed.evaluation_sets import EvaluationSet
from domix.embed.feature_model import FeatureModel, of_classifier, of_clip
from domix.embed.image_sets import embed_classes, embed_images
from domix.model.checkpoint import save_weights
from domix.model.classifier import build as build_classifier
from domix.ood.metrics import auroc
from domix.ood.probes.linear_probe import IN21K, Recipe, train_probe
from domix.ood.probes.pseudo_labels import pseudo_labels
from domix.ood.probes.rows import few_shot_rows
from domix.ood.scores.prototypes import mine_negatives
from domix.ood.scores.registry import compute_score
from domix.project.embedding import means_of
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.settings.params import Params
from tests.commands import domix
from tests.ood_project import MODEL, printed, write_folder, write_ood_project
from tests.public_models import weights_of
from tests.tiny import CONFIG, WORDS

SETS = ("--id", "emoji", "--ood", "odd:far")
TRAINED = (*SETS, "--train", "school")
TIMM = "timm/test_resnet"


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The project of `domix ood`, with 5 training images of each class in the folder school."""
    monkeypatch.chdir(tmp_path)
    made = write_ood_project(tmp_path)
    write_folder(Path("school"), dict.fromkeys(WORDS, 5), first=20)
    return made


def timm_weights(outputs: int) -> str:
    torch.manual_seed(0)
    path = Path(f"timm{outputs}.safetensors")
    save_file(weights_of(timm.create_model("test_resnet", num_classes=outputs)), path)
    return str(path)


def read(params: Params, model: FeatureModel) -> dict[str, tuple[np.ndarray, EvaluationSet]]:
    """Return the features of each set, and the set."""
    known = open_known(params, "emoji", None)
    sets = {
        "known": known,
        "foreign": open_foreign(params, "odd:far", known),
        "train": open_training(params, "school", known),
    }
    return {name: (embed_images(model, what, means_of(params)), what) for name, what in sets.items()}


def percent(inside: np.ndarray, outside: np.ndarray) -> str:
    return f"{100 * auroc(inside, outside):.1f}"


def labels_of(what: EvaluationSet) -> np.ndarray:
    return what.rows["label"].to_numpy(np.int64)


def scores_of(table: pd.DataFrame) -> dict[str, str]:
    return dict(zip(table["score"], table["AUROC"], strict=True))


def clip_model(output: str) -> FeatureModel:
    assert output in ("joint", "tower")
    return of_clip(open_subject(Path(MODEL)), output, name=MODEL, device="cpu")


def test_a_classifier_is_scored_by_its_logits_and_features(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    weights = timm_weights(12)
    first, table = printed(params, capsys, *SETS, "--architecture", TIMM, model=weights)
    assert table["score"].tolist() == [
        *("energy", "knn", "mahalanobis", "relative_mahalanobis", "msp", "max_logit", "gen")
    ]
    model = of_classifier(TIMM, weights, "tower", device="cpu")
    found = read(params, model)
    assert model.behind is not None and model.joint(found["known"][0]) is None
    logits = {name: model.behind.project(features) for name, (features, _) in found.items()}
    for name in ("msp", "energy"):
        inside, outside = (compute_score(name, {"logits": logits[what]}) for what in ("known", "foreign"))
        assert scores_of(table)[name] == percent(inside, outside)
    right = logits["known"].argmax(axis=1) == labels_of(found["known"][1])
    balanced = np.mean([right[labels_of(found["known"][1]) == label].mean() for label in range(12)])
    assert first == f"known: 48 images of 12 classes of emoji; balanced accuracy of the head {100 * balanced:.1f} %"


def test_a_head_of_other_classes_has_no_accuracy_and_knows_no_labels(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (*SETS, "--architecture", TIMM)
    first, table = printed(params, capsys, *arguments, "--score", "vim,react", model=timm_weights(7))
    assert first == "known: 48 images of 12 classes of emoji" and table["score"].tolist() == ["vim", "react"]
    with pytest.raises(ParameterError, match=r"^she needs a head of the known classes, unlike that of timm/test_resne"):
        domix(params, "ood", timm_weights(7), *arguments, "--score", "she")


def test_torchvisions_models_and_what_no_classifier_serves(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    save_file(weights_of(torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=12)), "t.safetensors")
    arguments = (*SETS, "--architecture", "torchvision/shufflenet_v2_x0_5")
    assert printed(params, capsys, *arguments, "--score", "she,ash", model="t.safetensors")[1]["score"].tolist()
    with pytest.raises(ParameterError, match=r"^mcm compares images with class names, and torchvision/shuff\S+ has no"):
        domix(params, "ood", "t.safetensors", *arguments, "--score", "mcm")
    with pytest.raises(ParameterError, match=r"--features: torchvision/shufflenet_v2_x0_5 has no text tower"):
        domix(params, "ood", "t.safetensors", *arguments, "--features", "joint")


def test_domixs_classifiers_are_read_by_the_names_of_their_outputs(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = {"clip": CONFIG, "image_size": 32}
    folder = Path("artifacts/models/supervised/tiny-s0")
    folder.mkdir(parents=True)
    save_weights(build_classifier(encoder, outputs=14, seed=1).eval(), folder / "model.safetensors")
    names = ["zebra", *reversed(WORDS), "yak"]
    write_json(folder / "config.json", {"encoder": encoder, "classes": names, "first_class": 0})
    first, table = printed(params, capsys, *SETS, "--score", "msp", model=str(folder))
    model = of_classifier(str(folder), None, "tower", device="cpu")
    assert model.outputs(WORDS) == list(range(12, 0, -1)) and model.outputs(["lamp"]) is None
    assert model.behind is not None
    found = read(params, model)
    logits = {name: model.behind.project(features)[:, 12:0:-1] for name, (features, _) in found.items()}
    inside, outside = (compute_score("msp", {"logits": logits[what]}) for what in ("known", "foreign"))
    assert table.loc[0, "AUROC"] == percent(inside, outside)
    assert "; balanced accuracy of the head " in first


def test_features_before_the_projection_serve_banks_and_joint_ones_serve_texts(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = ("--score", "mcm,energy,knn")
    joint = printed(params, capsys, *TRAINED, *scores)[1]
    said, tower = printed(params, capsys, *TRAINED, *scores, "--features", "tower")
    assert said.splitlines()[1] == "trained on: 60 images of school"
    assert (
        scores_of(joint)["mcm"] == scores_of(tower)["mcm"] and scores_of(joint)["energy"] == scores_of(tower)["energy"]
    )
    for output, table in (("joint", joint), ("tower", tower)):
        found = read(params, clip_model(output))
        inside, outside = (
            compute_score("knn", {"features": found[what][0], "bank": found["train"][0]})
            for what in ("known", "foreign")
        )
        assert scores_of(table)["knn"] == percent(inside, outside)
    features = found["known"][0]
    assert features.shape == (48, 16) and abs(np.linalg.norm(features, axis=1) - 1).min() > 1e-3


@pytest.mark.parametrize("probe", ["labels", "few:2", "pseudo", "in21k"])
def test_a_probe_gives_a_model_a_head(params: Params, capsys: pytest.CaptureFixture[str], probe: str) -> None:
    arguments = (*TRAINED, "--features", "tower", "--probe", probe, "--score", "msp,vim,she", "--json", "out.json")
    said, table = printed(params, capsys, *arguments)
    model = clip_model("tower")
    found = read(params, model)
    bank, labels = found["train"][0], labels_of(found["train"][1])
    rows = np.arange(len(labels))
    if probe == "few:2":
        rows = few_shot_rows(labels, 2)
        assert len(rows) == 24
    if probe == "pseudo":
        text = embed_classes(open_subject(Path(MODEL)), [[f"a {name}."] for name in WORDS], means_of(params))
        joint = model.joint(bank)
        assert joint is not None
        made = pseudo_labels(joint, text, known=labels)
        assert said.splitlines()[1].startswith("trained on: 60 images of school by pseudo-labels, ")
        labels = made.labels
    recipe = Recipe(batch=1024, standardise=False) if probe == "in21k" else Recipe()
    trained = train_probe(bank[rows], labels[rows], recipe, classes=12)
    logits = {name: trained.logits(found[name][0]) for name in ("known", "foreign")}
    inside, outside = (compute_score("msp", {"logits": logits[name]}) for name in ("known", "foreign"))
    assert abs(float(scores_of(table)["msp"]) - 100 * auroc(inside, outside)) < 0.11  # a probe trained by other threads
    weight = trained.weight.astype(np.float64) / trained.std
    given = {"bank": bank, "labels": labels, "weight": weight, "bias": trained.bias - weight @ trained.mean}
    for name in ("vim", "she"):
        inside, outside = (compute_score(name, given | {"features": found[one][0]}) for one in ("known", "foreign"))
        assert abs(float(scores_of(table)[name]) - 100 * auroc(inside, outside)) < 0.51
    assert "; balanced accuracy of the probe " in said
    listed = json.loads(Path("out.json").read_text(encoding="utf-8"))
    assert listed[0]["auroc"]["msp"][0]["temp"] == 1.0  # logits of a head are no cosines


def test_the_baselines_of_plp_are_commands(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    """A fine-tuned classifier by its own head; features of another under a probe, scored on the test images alone."""
    own, _ = printed(params, capsys, *SETS, "--architecture", TIMM, "--score", "energy,msp", model=timm_weights(12))
    assert own.endswith(" %") and "balanced accuracy of the head" in own
    arguments = (*TRAINED, "--architecture", TIMM, "--probe", "in21k", "--score", "energy,msp")
    said, table = printed(params, capsys, *arguments, model=timm_weights(7))
    assert "balanced accuracy of the probe" in said and said.endswith("trained on: 60 images of school")
    found = read(params, of_classifier(TIMM, timm_weights(7), "tower", device="cpu"))
    probe = train_probe(found["train"][0], labels_of(found["train"][1]), IN21K, classes=12)
    inside, outside = (compute_score("energy", {"logits": probe.logits(found[x][0])}) for x in ("known", "foreign"))
    assert abs(float(scores_of(table)["energy"]) - 100 * auroc(inside, outside)) < 0.51


def test_a_probe_is_trained_once(
    params: Params, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*TRAINED, "--probe", "labels", "--score", "max_logit")
    before = printed(params, capsys, *arguments)[1]
    monkeypatch.setattr("domix.cli.detection.heads.train_probe", lambda *given, **options: 1 / 0)
    pd.testing.assert_frame_equal(before, printed(params, capsys, *arguments)[1])
    with pytest.raises(ZeroDivisionError):
        domix(params, "ood", MODEL, *TRAINED, "--probe", "few:1", "--score", "max_logit")


def test_training_images_without_classes_serve_pseudo_labels_alone(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(Path("plain"), {"": 30}, first=60)
    arguments = (*SETS, "--train", "plain")
    said, table = printed(params, capsys, *arguments)
    assert set(table["score"]) == {"mcm", "max_cosine", "energy", "knn"}
    said = printed(params, capsys, *arguments, "--probe", "pseudo", "--score", "msp")[0]
    assert said.splitlines()[1] == "trained on: 30 images of plain by pseudo-labels"
    for more, says in (
        (("--score", "mahalanobis"), "mahalanobis needs the classes of the training images: sort these"),
        (("--probe", "labels"), "30 images of plain have no classes to train a probe on: take --probe pseudo"),
    ):
        with pytest.raises(ParameterError, match=says):
            domix(params, "ood", MODEL, *arguments, *more)


def test_training_images_of_a_packed_source_are_its_own(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    shards = Path("artifacts/shards/emoji")
    index = read_index(shards)
    write_index(shards, index.assign(split=np.where(index["row"] < 24, "train", "test")).astype(index.dtypes))
    said, _ = printed(params, capsys, *SETS, "--train", "emoji", "--score", "knn")
    assert said.startswith("known: 24 images") and said.endswith("trained on: 24 images of emoji")
    known = open_known(params, "emoji", None)
    assert open_training(params, "emoji", known).rows["row"].tolist() == list(range(24))


def test_options_are_chosen_on_another_set(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(Path("strange"), {"": 6}, first=80)
    arguments = (*TRAINED, "--validate", "strange", "--score", "mcm,max_cosine,knn")
    said, table = printed(params, capsys, *arguments)
    found = read(params, clip_model("joint"))
    (features, what), bank = found["known"], found["train"][0]
    part = deal_parts(labels_of(what), 5, seed=0)
    assert said.startswith(f"known: {(part != 0).sum()} images")
    known = open_known(params, "emoji", None)
    other = embed_images(clip_model("joint"), open_foreign(params, "strange:far", known), means_of(params))

    def knn(rows: np.ndarray, k: int) -> np.ndarray:
        return compute_score("knn", {"features": rows, "bank": bank}, k=k)

    tried = {k: auroc(knn(features[part == 0], k), knn(other, k)) for k in (1, 5, 10, 20, 50)}
    best = max(tried, key=lambda k: tried[k])
    assert f"chosen on {(part == 0).sum()} other known images and strange: mcm (temperature " in said
    assert said.endswith(f", knn (k {best})") and "max_cosine" not in said
    assert scores_of(table)["knn"] == percent(knn(features[part != 0], best), knn(found["foreign"][0], best))


def test_words_of_other_things_are_negative_labels(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    table = printed(params, capsys, *SETS, "--score", "neglabel")[1]
    subject, context = open_subject(Path(MODEL)), means_of(params)
    words = [word for word in vocabulary([], []) if word not in WORDS]
    classes, embedded = (
        embed_classes(subject, [[f"a {name}."] for name in names], context) for names in (WORDS, words)
    )
    negatives = embedded[mine_negatives(embedded, classes, round(len(words) / 2))]
    found = read(params, clip_model("joint"))
    inside, outside = (
        compute_score("neglabel", {"features": found[what][0], "prototypes": classes, "negatives": negatives})
        for what in ("known", "foreign")
    )
    assert table.loc[0, "AUROC"] == percent(inside, outside)


@pytest.mark.parametrize(
    ("arguments", "kind", "says"),
    [
        (["--probe", "labels"], ParameterError, "--probe needs images of its own to be trained on: name them with"),
        (["--train", "school", "--probe", "few:0"], ParameterError, "--probe is 'few:0': give labels, pseudo, few:<"),
        (["--train", "school", "--probe", "all"], ParameterError, "--probe is 'all': give labels, pseudo, few:<"),
        (["--train", "school", "--probe", "few:6"], DataError, "class 0 has 5 images, fewer than the 6 that are asked"),
        (["--train", "emoji"], DataError, "emoji has no training images beside the ones to be told"),
        (["--train", "nowhere"], ParameterError, "--train: there is no packed source and no folder nowhere"),
        (["--train", "others"], DataError, "others has training images of lamp, which is no class of emoji (1 such)"),
        (["--validate", "odd"], DataError, "odd would both choose hyper-parameters and be reported on"),
        (["--validate", "emoji"], DataError, "emoji would both choose hyper-parameters and be reported on"),
        (["--score", "msp", "--architecture", "timm/no_such"], ParameterError, "timm has no model 'no_such'"),
    ],
)
def test_faults_are_one_sentence(params: Params, arguments: list[str], kind: type[Exception], says: str) -> None:
    write_folder(Path("others"), {"apple": 1, "lamp": 1}, first=90)
    with pytest.raises(kind) as caught:
        domix(params, "ood", MODEL, *SETS, *arguments)
    assert says in str(caught.value) and "\n" not in str(caught.value)
