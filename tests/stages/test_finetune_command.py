"""`domix finetune`: its folder is a model for the other commands, the curve says what models in between do."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from domix.cli.models import finetune
from domix.data.store.index import read_index, write_index
from domix.data.store.shards import ShardReader
from domix.embed.evaluation_sets import study_set
from domix.embed.passes import here
from domix.embed.run_model import RunModel
from domix.evaluate.metrics import balanced_accuracy
from domix.finetuning.interpolation import ALPHAS, along
from domix.finetuning.wise_ft import START
from domix.model.checkpoint import save_weights
from domix.model.clip import build
from domix.project.common import load_params
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from tests.commands import domix
from tests.tiny import CONFIG, WORDS, write_project

SHARDS = Path("artifacts/shards/emoji")
MODEL = Path("artifacts/models/clip/tiny-s0")
RECIPE = ("--epochs", "2", "--batch", "12", "--lr", "3e-3", "--warmup", "0.2")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """A project of 96 images, half of them for the test, every class in both halves, and a model."""
    write_project(tmp_path, count=96)
    monkeypatch.chdir(tmp_path)
    index, classes = read_index(SHARDS), sorted(WORDS)
    label = [row // 2 % 12 for row in range(96)]
    names = [classes[number] for number in label]
    changed = index.assign(split=["train"] * 48 + ["test"] * 48, label=label, **{"class": names})
    write_index(SHARDS, changed.astype(index.dtypes))
    save_weights(build(CONFIG, seed=0), MODEL / "model.safetensors")
    write_json(MODEL / "config.json", {"model": CONFIG})
    return replace(load_params(), test_domain="sketch", natural_domain="real", test_classes=WORDS[:2])


def tune(params: Params, *arguments: str, images: str = "emoji", out: str = "tuned") -> None:
    domix(params, "finetune", str(MODEL), "--images", images, "--out", out, *RECIPE, *arguments)


def test_the_curve_is_that_of_the_models_in_between(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    tune(params, "--test", "emoji")
    said = capsys.readouterr().out
    assert "fine-tuning on 48 images of 12 classes of emoji" in said and "step 8: loss" in said
    assert "the fine-tuned model is tuned" in said and "balanced accuracy in percent" in said
    names = {str(path.relative_to("tuned")) for path in Path("tuned").rglob("*") if path.is_file()}
    assert {"model.safetensors", "config.json", START, "curve.csv", "curve.png", "curve.svg", "curve.pdf"} <= names
    curve = pd.read_csv("tuned/curve.csv").set_index(["alpha", "domain", "cells"])
    assert sorted(set(curve.index.get_level_values(0))) == list(ALPHAS)
    what = study_set(SHARDS)
    label = what.rows["label"].to_numpy()
    with ShardReader(SHARDS) as reader:
        model = RunModel(MODEL, "clip", {"emoji": reader}, here(Path(".cache"), 16))
        images = torch.cat(list(model.batches("emoji", what.rows)))
    images = model.encoder.preprocess.normalise(images)
    for alpha, classifier in along(Path("tuned"), (0.0, 0.4, 1.0)):
        with torch.inference_mode():
            right = classifier(images).argmax(dim=1).numpy() == label
        for domain in ("real", "sketch"):
            inside = (what.rows["domain"] == domain).to_numpy()
            row = curve.loc[(alpha, domain, "all")]
            assert row["balanced_top1"] == pytest.approx(balanced_accuracy(label[inside], right[inside]))
            assert (row["top1"], row["n"]) == (pytest.approx(right[inside].mean()), inside.sum())


def test_the_folder_is_a_model_for_the_other_commands(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    tune(params, "--test", "emoji")
    curve = pd.read_csv("tuned/curve.csv").set_index(["alpha", "domain", "cells"])["top1"]
    capsys.readouterr()
    domix(params, "evaluate-model", "tuned")
    table = capsys.readouterr().out.splitlines()
    whole = next(line for line in table if line.split()[:2] == ["real", "all"])
    assert f" {100 * curve[1.0, 'real', 'all']:.1f} [" in whole
    domix(params, "signature", "tuned", "--pruned")
    first, pruned = (pd.read_csv(io.StringIO(text), sep=r"\s+") for text in capsys.readouterr().out.split("\n\n"))
    assert first["width"].tolist() == [16] * len(first) and pruned["kept"].tolist()[0] == first["rank"][0] <= 12


def test_a_call_that_is_done_measures_anew_and_trains_nothing(
    params: Params, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tune(params)
    assert not Path("tuned/curve.csv").exists()
    before = Path("tuned/model.safetensors").read_bytes()
    monkeypatch.setattr(finetune, "fine_tune", None)
    tune(params, "--test", "emoji")
    assert Path("tuned/curve.csv").exists() and Path("tuned/model.safetensors").read_bytes() == before
    with pytest.raises(ParameterError, match=r"^tuned is there already, and not of this call: name a new folder with"):
        tune(params, "--seed", "1")
    Path("mine").mkdir()
    with pytest.raises(ParameterError, match=r"^mine is there already"):
        tune(params, out="mine")


def test_a_folder_of_ones_own_serves(params: Params, tmp_path: Path) -> None:
    for number, name in enumerate(WORDS[:3]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for place in range(5):
            Image.new("RGB", (40, 44), (80 * number, 10 * place, 200)).save(tmp_path / "photos" / name / f"{place}.png")
    tune(params, "--batch", "6", "--test", "photos", images="photos")
    config = read_json(Path("tuned/config.json"))
    assert config["classes"] == sorted(WORDS[:3]) and config["trained_on"] == {"images": "photos", "samples": 15}
    assert config["recipe"]["batch"] == 6 and config["recipe"]["weight_decay"] == 0.1
    curve = pd.read_csv("tuned/curve.csv")
    assert set(curve["cells"]) == {"all"} and set(curve["n"]) == {15}
    with pytest.raises(DataError, match=r"^the fine-tuned head has no outputs for the classes of emoji: leave it out"):
        tune(params, "--batch", "6", "--test", "emoji", images="photos")


def test_what_cannot_be_trained_on_is_refused(params: Params, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"^--images: there is no packed source and no folder nowhere"):
        tune(params, images="nowhere")
    with pytest.raises(ParameterError, match=r"^--test: there is no packed source and no folder nowhere"):
        tune(params, "--test", "nowhere")
    with pytest.raises(ParameterError, match=r"^--batch: batch is 256, but there are 48 images: lower it$"):
        domix(params, "finetune", str(MODEL), "--images", "emoji", "--out", "tuned")
    (tmp_path / "loose").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "loose/a.png")
    with pytest.raises(DataError, match=r"^loose has images without a class to fine-tune on: sort them into <class>/$"):
        tune(params, images="loose")
    index = read_index(SHARDS)
    gone = index["class"] == sorted(WORDS)[4]
    write_index(SHARDS, index.assign(split=index["split"].where(~gone, "test")).astype(index.dtypes))
    with pytest.raises(DataError, match=rf"^there is no training image of {sorted(WORDS)[4]} \(1 such classes\)"):
        tune(params)
    assert not Path("tuned").exists()
