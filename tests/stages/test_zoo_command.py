"""`domix zoo` on tiny models: what it writes, that a second run opens nothing, and what it refuses."""

from __future__ import annotations

import json
import logging
import shutil
import weakref
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from domix.activations.encode import unit_embeddings
from domix.analyses.concepts.broden import read_broden
from domix.analyses.concepts.study_concepts import study_concepts
from domix.cli.models import zoo_concepts, zoo_models
from domix.cli.models.signature import cut_files, signature_table
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.embed.clip import open_subject
from domix.embed.evaluation_sets import study_set
from domix.embed.feature_model import FeatureModel, of_clip
from domix.embed.image_sets import embed_classes, embed_images
from domix.embed.prompts import render_prompts
from domix.encoders.cutting import cut_images
from domix.encoders.encoder import classifier_encoder
from domix.encoders.preprocess import square
from domix.figures.figure import Figure
from domix.finetuning.interpolation import along
from domix.finetuning.wise_ft import START
from domix.model.checkpoint import save_weights
from domix.model.classifier import build as build_classifier
from domix.project.embedding import means_of
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from domix.settings.params import Params
from domix.signature.directions import head_importance
from domix.zoo import publish
from tests.commands import domix
from tests.ood_project import MODEL, write_folder, write_ood_project
from tests.public_models import INCEPTION, VIT, tiny_clip, write_open_clip_folder
from tests.stages.test_concepts_command import write_broden
from tests.tiny import CONFIG
from tests.tiny_wise_ft import SCALE, make_start

SHARDS = Path("artifacts/shards/emoji")
CLASSIFIER = "artifacts/models/supervised/tiny-s0"


class Killed(Exception):
    """What ends a run in the midst of it."""


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of 48 images of 12 classes, three CLIP models, a classifier, and shifted images of two classes."""
    monkeypatch.chdir(tmp_path)
    made = write_ood_project(tmp_path)
    write_open_clip_folder(Path("squash"), tiny_clip(), mean=INCEPTION, std=INCEPTION)
    write_open_clip_folder(Path("conv"), tiny_clip(CONFIG), CONFIG)
    classes = study_set(SHARDS).classes
    classifier = build_classifier({"clip": CONFIG, "image_size": 32}, outputs=len(classes), seed=0)
    save_weights(classifier, Path(CLASSIFIER) / "model.safetensors")
    config = {"encoder": {"clip": CONFIG, "image_size": 32}, "classes": classes, "first_class": 0}
    write_json(Path(CLASSIFIER) / "config.json", config)
    write_folder(Path("shifted"), {classes[3]: 4, classes[7]: 6}, first=50)
    return made


def write_list(*left_out: str, **further: str) -> Path:
    models = {"one": (MODEL, "a"), "squash": ("squash", "b"), "conv": ("conv", "b"), "classifier": (CLASSIFIER, "c")}
    models |= {name: (model, "a") for name, model in further.items()}
    rows = [
        {"name": name, "model": model, "group": group, "family": group}
        for name, (model, group) in models.items()
        if name not in left_out
    ]
    with open("zoo.yaml", "w") as file:
        YAML(typ="safe", pure=True).dump({"models": rows}, file)
    return Path("zoo.yaml")


def run(params: Params, *arguments: str, shifts: str = "shifted,emoji:sketch") -> pd.DataFrame:
    domix(params, "zoo", "zoo.yaml", "--images", "emoji:real", "--shifts", shifts, "--out", "out", *arguments)
    return pd.read_parquet("out/tables/models.parquet").set_index("name")


def test_the_tables_hold_what_each_model_makes_of_the_images(
    params: Params, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_list()
    caplog.set_level(logging.INFO)
    models = run(params, "--sites", "layer1.0,transformer.resblocks.0")
    assert list(models.index) == ["one", "squash", "conv", "classifier"] and (models["n"] == 24).all()
    context, subject = means_of(params), open_subject(Path(MODEL))
    what = study_set(SHARDS)
    opened = of_clip(subject, "joint", name="one", device="cpu")
    features, head = embed_images(opened, what, context), embed_classes(
        subject, render_prompts("a {}.", what.classes), context
    )  # fmt: skip
    labels, real = what.rows["label"].to_numpy(), (what.rows["domain"] == "real").to_numpy()
    want = signature_table(features[real], head, what.rows["domain"].to_numpy(dtype=object)[real]).iloc[0]
    columns = ["kurtosis", "median", "se", "outliers", "top", "top_mean_abs", "max_to_mean", "effective_rank", "rank"]
    assert models.loc["one", columns].tolist() == pytest.approx(want[columns].tolist(), rel=1e-5)
    right = (features @ head.T).argmax(axis=1) == labels
    assert models.loc["one", "id"] == pytest.approx(right[real].mean())
    present = np.unique(labels[~real])
    told = present[(features[~real] @ head[present].T).argmax(axis=1)] == labels[~real]
    assert models.loc["one", "accuracy emoji sketch"] == pytest.approx(told.mean())
    assert models["accuracy shifted"].between(0, 1).all() and (models["accuracy shifted"] * 10 % 1 < 1e-9).all()
    assert "ER mean" not in models
    page = Path("out/index.html").read_text()
    assert "CKA compares models that do not read the images alike, which lowers it" in page
    assert "mean 0.5" in page and "no trend ships" in page and "4 of 4, classifier" in caplog.text
    matrix = pd.read_csv("out/tables/cka_models.csv").set_index("model")
    assert matrix.shape == (4, 4) and np.diag(matrix) == pytest.approx(1)
    sites = pd.read_csv("out/tables/cka_sites.csv")["model"].tolist()
    block = "transformer.resblocks.0"
    each = {"one": ("output", block), "squash": ("output", block), "conv": ("output", "layer1.0")}
    assert sites == [f"{name} {site}" for name, some in each.items() for site in some]
    assert pd.read_csv("out/tables/cka_groups.csv")["model"].tolist() == ["a", "b", "c"]
    pruning = pd.read_parquet("out/tables/pruning.parquet")
    whole = pruning[(pruning["percent"] == 0) & (pruning["set"] == "id")].groupby("model")["accuracy"].first()
    assert whole.loc[models.index].tolist() == pytest.approx(models["id"].tolist())
    names = {path.stem for path in Path("out/figures").glob("*.svg")}
    assert {"zoo-kurtosis", "zoo-cka-models", "zoo-cka-groups", "zoo-pruning"} <= names
    files = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was opened again")

    monkeypatch.setattr(zoo_models, "open_features", refuse)
    caplog.clear()
    assert run(params, "--sites", "layer1.0,transformer.resblocks.0").equals(models)
    assert {path: path.read_bytes() for path in files} == files
    assert "zoo: 4 of 4, classifier (kept)" in caplog.text and "decoding" not in caplog.text


def test_a_model_that_cannot_be_read_is_left_out_and_the_others_count(params: Params) -> None:
    write_list("conv", "classifier", broken="broken")
    write_open_clip_folder(Path("broken"), tiny_clip())
    (Path("broken") / "open_clip_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(DataError, match=r"^1 of 3 models are left out; broken: .*open_clip_model\.safetensors"):
        run(params)
    assert pd.read_csv("out/tables/models.csv")["name"].tolist() == ["one", "squash"]
    assert "broken is left out: " in json.loads(Path("out/zoo.json").read_text())["notes"][0]
    write_open_clip_folder(Path("broken"), tiny_clip())  # mended weights are read
    assert list(run(params).index) == ["one", "squash", "broken"]
    write_list("one", "squash", "conv", "classifier", gone="nowhere")
    with pytest.raises(DataError, match=r"^none of the 1 models can be read; gone: there is no"):
        run(params)
    assert len(pd.read_csv("out/tables/models.csv")) == 3  # what was there stays


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the figures, of which none is drawn."""
    names: set[str] = set()

    def note(figure: Figure, folder: Path) -> float:
        names.add(figure.name)
        return 1.0

    monkeypatch.setattr(publish, "save", note)
    return names


@pytest.mark.usefixtures("drawn")
def test_a_zoo_that_was_cut_short_goes_on_with_the_next_model(
    params: Params, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_list("conv")
    caplog.set_level(logging.INFO)
    opened, real = [], zoo_models.open_features

    def interrupt(_: Params, model: str, *rest: object, **options: object) -> object:
        opened.append((model, [one() for one in held if one() is not None]))
        if model == CLASSIFIER and len(opened) < 4:
            raise Killed
        found = real(params, model, *rest, **options)
        held.append(weakref.ref(found))
        return found

    held: list[weakref.ref] = []
    monkeypatch.setattr(zoo_models, "open_features", interrupt)
    with pytest.raises(Killed):
        run(params)
    assert not Path("out").exists()
    assert "zoo: 1 of 3, one\n" in caplog.text and "zoo: 2 of 3, squash, about 00:0" in caplog.text
    caplog.clear()
    run(params)
    assert [model for model, _ in opened] == [MODEL, "squash", CLASSIFIER, CLASSIFIER]
    assert all(not alive for _, alive in opened), "a model was held while the next was opened"
    assert "zoo: 2 of 3, squash (kept)\n" in caplog.text and "zoo: 3 of 3, classifier\n" in caplog.text


@pytest.mark.usefixtures("drawn")
def test_a_fine_tuned_model_and_the_weights_in_between(params: Params) -> None:
    what, started = study_set(SHARDS), make_start()
    config = {"encoder": {"zero_shot": CONFIG, "image_size": 32}, "classes": what.classes, "first_class": 0}
    write_json(Path("tuned/config.json"), config | {"start": {"logit_scale": SCALE}})
    save_weights(started.model, Path("tuned") / START)
    with torch.no_grad():
        for tensor in started.model.parameters():
            tensor += 0.3 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(1))
    save_weights(started.model, Path("tuned/model.safetensors"))
    alphas = {"tuned": None, "before": 0.0, "between": 0.5, "after": 1.0}
    rows = [{"name": name, "model": "tuned", "group": "tuned", "alpha": alpha} for name, alpha in alphas.items()]
    rows.append({"name": "whole", "model": MODEL, "group": "tuned", "alpha": 0.5})
    write_json(Path("zoo.yaml"), {"models": rows})
    with pytest.raises(
        DataError, match=r"^1 of 5 models are left out; whole: .* holds no model before its fine-tuning"
    ):
        run(params)
    models = pd.read_parquet("out/tables/models.parquet").set_index("name").drop(columns="group")
    assert models.loc["after"].equals(models.loc["tuned"])
    assert models["kurtosis"].nunique() == 3
    rows_read = what.rows[what.rows["domain"] == "real"].reset_index(drop=True)
    label = rows_read["label"].to_numpy()
    with ShardReader(SHARDS) as reader:
        images = cut_images(lambda place: reader.read(int(rows_read["row"][place])), rows_read, square(32), threads=1)
    for alpha, model in along(Path("tuned"), [0.0, 0.5]):
        with torch.inference_mode():
            features, head = model.features(square(32).normalise(images)).numpy(), model.head.weight.numpy() / SCALE
        top = head_importance(head, features).max()  # at the prototypes' scale
        assert models.loc["before" if alpha == 0 else "between", "top"] == pytest.approx(top, rel=1e-5)
        encoder = classifier_encoder(model, square(32))
        right = encoder.forward(images).output.argmax(dim=1).numpy() == label
        assert models.loc["before" if alpha == 0 else "between", "id"] == pytest.approx(right.mean())


@pytest.mark.usefixtures("drawn")
def test_a_model_that_a_device_cannot_hold_is_left_out(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    write_list("conv", "classifier")
    real = zoo_models.embed_images

    def full(model: FeatureModel, *rest: object, **options: object) -> object:
        if model.name == "squash":
            raise torch.OutOfMemoryError
        return real(model, *rest, **options)

    monkeypatch.setattr(zoo_models, "embed_images", full)
    with pytest.raises(DataError, match=r"^1 of 2 models are left out; squash: the device has too little memory for"):
        run(params)
    assert pd.read_csv("out/tables/models.csv")["name"].tolist() == ["one"]


def test_concepts_of_a_packed_set_are_columns_and_relations(
    params: Params, monkeypatch: pytest.MonkeyPatch, drawn: set[str]
) -> None:
    write_list()
    before = run(params)
    models = run(params, "--concepts", "emoji", "--threshold", "0.6")
    assert models[before.columns].equals(before)
    what, context = study_set(SHARDS), means_of(params)
    every = study_concepts(what.rows, SHARDS).usable("category", 10)
    features = embed_images(of_clip(open_subject(Path(MODEL)), "joint", name="one", device="cpu"), what, context)
    ap = every.ap(features, "category")
    assert models.loc["one", "unique"] == (ap.max(axis=0) >= 0.6).sum() > 0
    assert models.loc["one", "units"] == (ap.max(axis=1) >= 0.6).sum() > 0
    assert models.loc["one", "polysemanticity"] == (ap >= 0.6).sum(axis=1)[ap.max(axis=1) >= 0.6].mean()
    assert models.loc["one", "ap"] == pytest.approx(ap.max(axis=0).mean())
    best = pd.read_parquet("out/tables/concepts.parquet")
    mine = best[best["model"] == "one"]
    assert mine["concept"].tolist() == list(every.names) and mine["ap"].tolist() == pytest.approx(ap.max(axis=0))
    assert mine["unit"].tolist() == ap.argmax(axis=0).tolist() and set(best["model"]) == set(models.index)
    curve = pd.read_parquet("out/tables/concept_curve.parquet").set_index(["model", "threshold"])
    assert curve.loc[("one", 0.6), "unique"] == models.loc["one", "unique"] and len(curve) == 4 * 501
    overlap = pd.read_csv("out/tables/overlap_models.csv").set_index("model")
    found = {name: set(rows[rows["ap"] >= 0.6]["concept"]) for name, rows in best.groupby("model")}
    either = found["one"] | found["squash"]
    assert overlap.loc["one", "squash"] == pytest.approx(len(found["one"] & found["squash"]) / len(either))
    assert pd.read_csv("out/tables/overlap_groups.csv")["model"].tolist() == ["a", "b", "c"]
    assert pd.read_csv("out/tables/shared.csv")["concepts"].sum() > 0
    assert set(pd.read_csv("out/tables/relations.csv")["number"]) >= {"unique", "units", "ap"}
    page = Path("out/index.html").read_text()
    assert "concepts of emoji" in page and "zoo-overlap-groups" in page
    assert drawn >= {"zoo-ap", "zoo-unique", "zoo-concepts", "zoo-overlap-models", "zoo-overlap-groups"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it was read again")

    monkeypatch.setattr(zoo_models, "open_features", refuse)
    monkeypatch.setattr(zoo_concepts.study_concepts, "colours_of", refuse)
    other = run(params, "--concepts", "emoji", "--threshold", "1")
    assert (other["unique"] <= models["unique"]).all() and other["ap"].equals(models["ap"])


@pytest.mark.usefixtures("drawn")
def test_concepts_of_broden(params: Params) -> None:
    write_list("conv", "classifier")
    folder = write_broden(Path())
    models = run(params, "--concepts", str(folder), "--threshold", "0.5")
    broden = read_broden(folder)
    opened = of_clip(open_subject(Path(MODEL)), "joint", name="one", device="cpu")
    cut = cut_files(broden.images, opened.encoder.preprocess, 8)
    features = np.concatenate(list(unit_embeddings(opened.encoder, cut)))
    ap = broden.concepts.usable("category", 10).ap(features, "category")
    assert models.loc["one", "ap"] == pytest.approx(ap.max(axis=0).mean())
    assert models.loc["one", "unique"] == (ap.max(axis=0) >= 0.5).sum()
    found = []
    for colour in ("black", "white"):  # other images of the same name, of one number of bytes
        Image.new("RGB", (64, 48), colour).save(folder / "images" / "000.png", compress_level=0)
        found.append(run(params, "--concepts", str(folder), "--threshold", "0.5").loc["one", "ap"])
    assert len({*found, models.loc["one", "ap"]}) == 3
    (folder / "images" / "000.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^the image .*000\.png is damaged: fetch it anew"):
        run(params, "--concepts", str(folder))
    with pytest.raises(ParameterError, match=r"^--concepts: there is no packed source and no folder nowhere"):
        run(params, "--concepts", "nowhere")


def test_changed_weights_are_measured_anew(params: Params) -> None:
    write_list("squash", "conv", "classifier")
    before = run(params)
    model = tiny_clip()
    with torch.no_grad():
        model.visual.proj += 1.0
    save_weights(model, Path(MODEL) / "model.safetensors")
    assert run(params).loc["one", "kurtosis"] != before.loc["one", "kurtosis"]


def test_effective_robustness_by_a_group(params: Params) -> None:
    models = [{"name": f"m{n}", "model": f"m{n}", "group": "all"} for n in range(4)]
    for n in range(4):
        model = tiny_clip()
        with torch.no_grad():
            model.visual.proj += n * torch.randn(model.visual.proj.shape, generator=torch.Generator().manual_seed(n))
        write_open_clip_folder(Path(f"m{n}"), model, VIT)
    with open("zoo.yaml", "w") as file:
        YAML(typ="safe", pure=True).dump({"baselines": "all", "models": models}, file)
    found = run(params, shifts="emoji:sketch")
    if found["id"].nunique() > 1:
        assert np.isfinite(found["ER mean"]).all()
        assert pd.read_csv("out/tables/relations.csv")["target"].str.startswith("ER").any()


def test_sets_that_cannot_be_used_are_told(params: Params) -> None:
    write_list("conv", "classifier")
    with pytest.raises(ParameterError, match=r"^two of the sets are called emoji real"):
        run(params, shifts="emoji:real")
    with pytest.raises(DataError, match=r"^--shifts emoji:comic: emoji has no domain comic \(it has real, sketch\)"):
        run(params, shifts="emoji:comic")
    with pytest.raises(ParameterError, match=r"there is no packed source and no folder nowhere"):
        run(params, shifts="nowhere")
    write_folder(Path("other"), {"zebra": 2}, first=70)
    with pytest.raises(DataError, match=r"^other has images of zebra, which is no class of emoji real \(1 such\)"):
        run(params, shifts="other")
    Path("out").mkdir()
    with pytest.raises(ParameterError, match=r"^--out out is there already and holds no zoo: name another folder"):
        run(params)
    shutil.rmtree("out")
    with pytest.raises(ParameterError, match=r"^--sites stem\.9: no model has this site; one has transformer\.resbl"):
        domix(params, "zoo", "zoo.yaml", "--images", "emoji", "--out", "out", "--sites", "stem.9")
    assert not Path("out").exists()


def test_a_classifier_of_other_classes_is_left_out(params: Params) -> None:
    config = json.loads((Path(CLASSIFIER) / "config.json").read_text())
    write_json(Path(CLASSIFIER) / "config.json", config | {"classes": [f"c{n}" for n in range(12)]})
    write_list("conv")
    with pytest.raises(DataError, match=r"^1 of 3 models .*has no outputs for the classes of emoji real"):
        run(params)
    assert len(read_index(SHARDS)) == 48
