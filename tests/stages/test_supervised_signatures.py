"""The analyses of signatures on a supervised classifier: its features, and its last layer as the head."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy
import torch

from domix.analyses.contract import RunInputs, Shared, StudyInputs
from domix.analyses.directions import computation as directions
from domix.analyses.model_facts import cell_groups
from domix.analyses.ood.settings import Settings
from domix.analyses.registry import find
from domix.analyses.runner import analyse, keep_run
from domix.analyses.sampling import draw_rows
from domix.data.mixtures.composition import CELLS
from domix.data.store.index import read_index, write_index
from domix.embed.classifier import embed_classifier
from domix.embed.clip import embed_clip, open_subject
from domix.embed.passes import ComputeContext
from domix.embed.readout import load_activations
from domix.encoders.encoder import ImageEncoder
from domix.evaluate.metrics import balanced_accuracy
from domix.model.checkpoint import save_tensors, save_weights
from domix.model.classifier import Classifier, build
from domix.model.clip import build as build_clip
from domix.ood.scores.logits import max_logit, msp
from domix.runs import Run
from domix.runtime.errors import DataError
from domix.runtime.files import write_json
from domix.runtime.kept import Kept
from domix.signature.directions import head_directions, head_importance
from domix.signature.pruning import pruned_head, pruning_order
from domix.study import Study
from tests.preprocessed import preprocessed
from tests.tiny import CONFIG, WORDS, make_images, write_project
from tests.tiny_supervised import RESNET, TIMM

SHARED = Shared(confidence=0.9, near_bits=6, drop="none", batch=16)
STUDY = Study("sketch", "real", (WORDS[0], WORDS[1]), ("real", "sketch"), tuple(sorted(WORDS)))
RUN, CLIP_RUN = Run("supervised", "tiny", 3), Run("clip", "tiny", 3)
MODEL, OUT = "artifacts/models/supervised/tiny-s3", "artifacts/embeddings/supervised/tiny-s3"
OUTPUTS = [None, *sorted(WORDS)]  # the first is of no class, so that rows of the layer are not those of the classes


def classifier(seed: int = 3) -> Classifier:
    model = build(RESNET, outputs=len(OUTPUTS), seed=seed).eval()
    with torch.no_grad():  # a bias that decides for a test class
        model.get_submodule("head").get_parameter("bias").copy_(torch.linspace(0.3, -0.3, len(OUTPUTS)))
    return model


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """144 images, half of them for the test, a classifier and a CLIP model of seed 3, and two checkpoints of the first.

    One has the last weights.
    """
    home = tmp_path_factory.mktemp("project")
    write_project(home, count=144)
    shards = home / "artifacts/shards/emoji"
    index = read_index(shards)
    split = ["test" if row >= 72 else "train" for row in range(144)]
    write_index(shards, index.assign(split=split).astype(index.dtypes))
    write_json(home / MODEL / "config.json", {"encoder": RESNET, "classes": OUTPUTS, "first_class": 1})
    kept = {epoch: home / MODEL / f"checkpoints/epoch_{epoch:03d}.safetensors" for epoch in (2, 5)}
    for path, seed in ((home / MODEL / "model.safetensors", 3), (kept[2], 12), (kept[5], 3)):
        save_tensors(classifier(seed).state_dict(), path)
    context = ComputeContext(home / ".cache", 16)
    embed_classifier(home / MODEL, home / OUT, context, study=shards, checkpoints=kept, epochs=7)
    folder = home / "artifacts/models/clip/tiny-s3"
    save_weights(build_clip(CONFIG, seed=3), folder / "model.safetensors")
    write_json(folder / "config.json", {"model": CONFIG})
    embed_clip(
        open_subject(folder), home / "artifacts/embeddings/clip/tiny-s3", context, templates="a {}.", study=shards
    )
    cells = pd.DataFrame([("tiny", "real", WORDS[0], 3)], columns=CELLS.names)
    CELLS.write(cells, home / "artifacts/mixtures/cells.parquet")
    return home


@pytest.fixture
def inputs(project: Path, tmp_path: Path) -> RunInputs:
    return RunInputs(replace(STUDY, runs=(RUN,)), RUN, ("emoji",), project / "artifacts", tmp_path / "cache", SHARED)


def run(name: str, inputs: RunInputs, **settings: object) -> dict[str, pd.DataFrame]:
    analysis = find(name)
    return analysis.run(inputs, analysis.Settings(**settings))


def features(seed: int = 3) -> np.ndarray:
    """Return what the last layer reads of the test images."""
    with torch.inference_mode():
        model, images = classifier(seed), make_images(144)
        return torch.cat([model.features(preprocessed(images[row][None], 32)) for row in range(72, 144)]).numpy()


def layer() -> tuple[np.ndarray, np.ndarray]:
    weight, bias = classifier().get_submodule("head").parameters()
    return weight.detach().numpy()[1:], bias.detach().numpy()[1:]


def test_features_and_the_last_layer_are_read(inputs: RunInputs, project: Path) -> None:
    found = inputs.readout
    weight, bias = layer()
    np.testing.assert_array_equal(found.head, weight)
    np.testing.assert_array_equal(found.bias, bias)
    np.testing.assert_allclose(found.activations, features(), rtol=1e-4, atol=1e-5)
    scores = np.load(project / OUT / "scores.npy")
    assert found.bias is not None
    np.testing.assert_allclose(found.activations @ found.head.T + found.bias, scores, rtol=1e-4, atol=1e-5)
    for epoch, seed in ((2, 12), (5, 3)):
        kept = load_activations(project / OUT, "supervised", checkpoint=epoch)
        assert kept.dtype == np.float16
        np.testing.assert_allclose(kept, features(seed), rtol=2e-3, atol=1e-3)


def test_kurtosis_is_that_of_features_at_every_checkpoint(inputs: RunInputs) -> None:
    table = run("outliers", inputs, sites=[])["output"].set_index(["checkpoint", "images"])
    assert table.index.get_level_values("checkpoint").unique().tolist() == [2, 5]
    for epoch, seed in ((2, 12), (5, 3)):
        want = scipy.stats.kurtosis(features(seed), axis=1, fisher=False)
        assert table.loc[(epoch, "all"), "kurtosis"] == pytest.approx(want.mean(), rel=1e-2)


def test_sites_are_named_as_clips_and_begin_with_the_weights_of_the_seed(inputs: RunInputs, tmp_path: Path) -> None:
    asked = {"sites": ["layer2.0", "attnpool"], "images": 20}
    sites = run("outliers", inputs, **asked)["sites"]
    assert sites["site"].unique().tolist() == ["layer2.0", "attnpool"]
    initial, kept, last = (
        part.drop(columns=["weights", "checkpoint"]).reset_index(drop=True) for _, part in sites.groupby("checkpoint")
    )
    pd.testing.assert_frame_equal(initial, last)  # this classifier was never trained
    assert list(zip(sites["weights"], sites["checkpoint"], strict=True))[::6] == [
        ("initial", 0),
        ("kept", 2),
        ("last", 5),
    ]
    other = build(RESNET, outputs=len(OUTPUTS), seed=12).eval()  # whose weights were kept after 2 epochs
    images = inputs.test_images()
    drawn = images.iloc[draw_rows(images["domain"].to_numpy(dtype=object), 20, seed=0)]
    encoder = ImageEncoder(other, other.visual, inputs.model.encoder.preprocess, output="logits")
    values = torch.cat(
        [encoder.forward(p, ["layer2.0"], pooled=True).sites["layer2.0"] for p in inputs.model.batches("emoji", drawn)]
    )
    wanted = scipy.stats.kurtosis(values.numpy(), axis=1, fisher=False).mean()
    assert kept.set_index(["site", "images"])["kurtosis"]["layer2.0", "all"] == pytest.approx(wanted, rel=1e-5)
    began = inputs.model.initial(4).forward(torch.zeros(1, 3, 32, 32)).output
    assert not torch.allclose(began, inputs.model.encoder.forward(torch.zeros(1, 3, 32, 32)).output)


def test_directions_are_those_of_the_last_layer(inputs: RunInputs) -> None:
    found = run("directions", inputs, images="all")
    weight, _ = layer()
    table = found["directions"]
    np.testing.assert_allclose(table["singular_value"], head_directions(weight).singular_values)
    np.testing.assert_allclose(table["abs_mean"], head_importance(weight, features()), rtol=1e-3)


def test_pruned_layers_keep_their_bias(inputs: RunInputs, project: Path) -> None:
    curves = run("pruning", inputs, percent=[0, 80], draws=1, images="all")["curves"]
    (weight, bias), values, groups = layer(), inputs.readout.activations, cell_groups(STUDY, inputs.readout.rows)
    label, directions = inputs.readout.rows["label"].to_numpy(), head_directions(weight)
    order = pruning_order(head_importance(weight, values))
    total = len(order)
    told = curves[curves["order"] == "importance"].set_index(["percent", "cells"])["accuracy"]
    for percent in (0, 80):
        kept = order[percent * total // 100 :]
        right = (values @ pruned_head(directions, kept).T + bias).argmax(axis=1) == label
        for cells, here in groups.items():
            assert told[percent, cells] == pytest.approx(balanced_accuracy(label[here], right[here]))
    whole = run("pruning", inputs, draws=1)["checkpoints"].set_index(["checkpoint", "cells"])["accuracy"]
    scores = np.load(project / OUT / "scores.npy")
    facts = run("directions", inputs, images="all")["models"].iloc[0]
    for cells, here in groups.items():
        want = balanced_accuracy(label[here], scores.argmax(axis=1)[here] == label[here])
        assert whole[5, cells] == pytest.approx(want) and facts[cells] == pytest.approx(want)


def test_units_are_those_of_features(inputs: RunInputs) -> None:
    concepts = run("concepts", inputs, least=3, images=36)["concepts"]
    assert concepts["unit"].max() < features().shape[1] == CONFIG["embed_dim"]
    row = concepts.set_index("concept").loc["sketch"]
    from sklearn.metrics import average_precision_score

    shown = (inputs.readout.rows["domain"] == "sketch").to_numpy()
    assert row["ap"] == pytest.approx(
        max(average_precision_score(shown, unit) for unit in inputs.readout.activations.T)
    )


def test_both_groups_stand_in_one_table(project: Path, tmp_path: Path) -> None:
    study = replace(STUDY, runs=(CLIP_RUN, RUN), standard_names={"tiny": "tiny"})
    inputs = StudyInputs(study, ("emoji",), project / "artifacts", tmp_path / "cache", SHARED)
    out = tmp_path / "out"
    analysis = find("directions")
    settings = analysis.Settings.read({"images": "all"}, "analyses.directions")
    analyse(analysis, settings, inputs, out, Kept(tmp_path / "kept"))
    table = pd.read_parquet(out / "summary.parquet")
    assert list(zip(table["kind"], table["mixture"], table["seed"], strict=True)) == [
        *[("clip", "tiny", 3)] * 2,
        *[("supervised", "tiny", 3)] * 2,
    ]
    alone = replace(inputs, study=replace(study, runs=(CLIP_RUN,)))
    analyse(analysis, settings, alone, tmp_path / "alone", Kept(tmp_path / "other"))
    first = table[table["kind"] == "clip"].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "alone/summary.parquet"), first)


def test_a_classifier_that_was_analysed_ahead_is_not_computed_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = replace(STUDY, runs=(CLIP_RUN, RUN), standard_names={"tiny": "tiny"})
    inputs = StudyInputs(study, ("emoji",), project / "artifacts", tmp_path / "cache", SHARED)
    analysis, kept, computed = find("directions"), Kept(tmp_path / "kept"), []
    settings = analysis.Settings.read({"images": "all"}, "analyses.directions")
    keep_run(analysis, settings, inputs, RUN, kept)
    keep_run(find("sharing"), find("sharing").Settings(), inputs, RUN, Kept(tmp_path / "none"))  # of CLIP models alone
    assert not (tmp_path / "none").exists()
    compute = directions.run

    def counting(mine: RunInputs, settings: object) -> dict[str, pd.DataFrame]:
        computed.append(mine.run)
        return compute(mine, settings)  # ty: ignore[invalid-argument-type]

    monkeypatch.setattr(directions, "run", counting)
    analyse(analysis, settings, inputs, tmp_path / "out", kept)
    assert computed == [CLIP_RUN]


def test_tables_hang_on_checkpoints_too(project: Path, tmp_path: Path) -> None:
    """One more checkpoint, embedded later, is no reason to keep tables that lack it."""
    shutil.copytree(project / "artifacts", tmp_path / "artifacts")
    study = replace(STUDY, runs=(RUN,), standard_names={"tiny": "tiny"})
    inputs = StudyInputs(study, ("emoji",), tmp_path / "artifacts", tmp_path / "cache", SHARED)
    for name, settings, table in (("outliers", {"sites": []}, "output"), ("pruning", {"images": "all"}, "checkpoints")):
        analysis, kept = find(name), Kept(tmp_path / "kept" / name)
        for epochs in ([5], [2, 5]):
            for epoch in (2, 5):
                folder = tmp_path / OUT / f"checkpoints/{epoch:03d}"
                shutil.rmtree(folder, ignore_errors=True)
                if epoch in epochs:
                    shutil.copytree(project / OUT / f"checkpoints/{epoch:03d}", folder)
            analyse(analysis, analysis.Settings.read(settings, ""), inputs, tmp_path / name, kept)
            found = pd.read_parquet(tmp_path / name / f"{table}.parquet")
            assert found["checkpoint"].unique().tolist() == epochs


def test_foreign_images_are_told_by_logits_and_features(project: Path, tmp_path: Path) -> None:
    from domix.analyses.ood import computation
    from domix.analyses.ood.images import read_images, score_images

    study = replace(STUDY, runs=(CLIP_RUN, RUN), standard_names={"tiny": "tiny"})
    inputs = StudyInputs(study, ("emoji",), project / "artifacts", tmp_path / "cache", SHARED)
    settings = Settings(folds=2, resamples=5, scores={"mcm": {}, "energy": {}, "knn": {"k": 1}})
    tables = computation.run_jointly(inputs, settings).tables
    told = {kind: list(dict.fromkeys(mine["score"])) for kind, mine in tables["metrics"].groupby("kind", sort=False)}
    assert told == {"clip": ["mcm", "energy", "knn"], "supervised": ["msp", "max_logit", "energy", "knn"]}
    alone = computation.run_jointly(replace(inputs, study=replace(study, runs=(CLIP_RUN,))), settings).tables
    for name, table in alone.items():
        mine = tables[name][tables[name]["kind"] == "clip"].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, table)

    images = read_images(project / OUT, RUN, study, "emoji", None)
    scores = np.load(project / OUT / "scores.npy")[:, [n for n, c in enumerate(STUDY.classes) if c not in WORDS[:2]]]
    assert images.logits is not None and images.prototypes is None
    np.testing.assert_array_equal(images.logits, scores)
    np.testing.assert_allclose(images.features, features(), rtol=1e-4, atol=1e-5)
    known, part = images.known(study), np.zeros(images.known(study).sum(), np.int64)
    for name, formula in (("msp", msp), ("max_logit", max_logit)):
        found = score_images(images, known, name, {}, logit_scale=100.0, part=part)
        np.testing.assert_array_equal(found, formula(scores))
    row = tables["models"][tables["models"]["kind"] == "supervised"].iloc[0]
    label = images.rows["label"].to_numpy()[known]
    assert row["zeroshot"] == pytest.approx(balanced_accuracy(label, scores[known].argmax(axis=1) == label))


def test_scores_that_need_prompts_are_left_out_for_classifiers() -> None:
    settings = Settings()
    assert list(settings.scores_of("clip")) == list(settings.scores) and settings.shown_of("clip") == "mcm"
    assert list(settings.scores_of("supervised")) == [
        *("msp", "max_logit", "energy", "knn", "mahalanobis", "relative_mahalanobis")
    ]
    assert settings.shown_of("supervised") == "msp"
    assert Settings(shown="energy").shown_of("supervised") == "energy"
    own = Settings(scores={"msp": {"temperature": 2.0}}, shown="msp").scores_of("supervised")
    assert own == {"msp": {"temperature": 2.0}, "max_logit": {}}


def test_a_classifier_without_features_is_named(inputs: RunInputs, project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / OUT, tmp_path / OUT)
    moved = replace(inputs, artifacts=tmp_path / "artifacts")
    np.save(tmp_path / OUT / "features.npy", np.zeros((3, 4), np.float32))
    with pytest.raises(DataError, match=r"features\.npy is float32 \(3, 4\), not the features of 72 images$"):
        _ = moved.readout
    shutil.copy(project / OUT / "features.npy", tmp_path / OUT / "features.npy")
    for content, says in ((b"x", r"head\.safetensors is damaged \("), (None, r"head\.safetensors is missing \(older")):
        (tmp_path / OUT / "head.safetensors").unlink()
        if content:
            (tmp_path / OUT / "head.safetensors").write_bytes(content)
        with pytest.raises(DataError, match=says):
            _ = replace(moved, cache=tmp_path).readout
    (tmp_path / OUT / "features.npy").unlink()
    with pytest.raises(DataError, match=r"features\.npy is missing \(older embeddings have none"):
        _ = replace(moved, cache=tmp_path).readout


def test_timms_classifiers_have_features_too(project: Path, tmp_path: Path) -> None:
    model, out, shards = tmp_path / "model", tmp_path / "out", project / "artifacts/shards/emoji"
    write_json(model / "config.json", {"encoder": TIMM, "classes": sorted(WORDS), "first_class": 0})
    save_tensors(build(TIMM, outputs=len(WORDS), seed=0).state_dict(), model / "model.safetensors")
    embed_classifier(model, out, ComputeContext(tmp_path / ".cache", 16), study=shards)
    from domix.embed.readout import load_classifier_readout

    found = load_classifier_readout(out)
    assert found.bias is not None
    scores = np.load(out / "scores.npy")
    np.testing.assert_allclose(found.activations @ found.head.T + found.bias, scores, rtol=1e-3, atol=1e-4)
