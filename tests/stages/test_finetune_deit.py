"""`domix finetune --recipe deit`: any encoder under a new head, in a folder that opens wherever an encoder does."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file

from domix.cli.models import finetune_deit
from domix.cli.models.concepts import open_encoder
from domix.data.store.index import read_index, write_index
from domix.embed.feature_model import of_classifier
from domix.embed.passes import here
from domix.encoders.backbones import open_backbone
from domix.encoders.classifiers import load_any_classifier
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json, write_json
from domix.runtime.settings import replace
from domix.settings.params import Params
from tests.commands import domix, told
from tests.ood_project import MODEL, printed, write_folder, write_ood_project
from tests.public_models import weights_of
from tests.tiny import TRAINER, WORDS

TIMM = "timm/test_resnet"
SHORT = ("--recipe", "deit", "--epochs", "1", "--cooldown", "0", "--warmup-epochs", "0", "--batch", "8", "--ema", "0.5")
SETS = ("--id", "emoji", "--ood", "odd:far")


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The project of `domix ood`, with 4 training images of each of 12 classes in the folder school."""
    monkeypatch.chdir(tmp_path)
    made = write_ood_project(tmp_path)
    write_folder(Path("school"), dict.fromkeys(WORDS, 4), first=20)
    torch.manual_seed(0)
    save_file(weights_of(timm.create_model("test_resnet", num_classes=7)), "resnet.safetensors")
    return replace(made, trainer=TRAINER, test_domain="sketch", natural_domain="real", test_classes=WORDS[:2])


def tune(params: Params, *arguments: str, model: str = "resnet.safetensors", out: str = "tuned") -> None:
    named = ("--architecture", TIMM) if model == "resnet.safetensors" else ()
    given = ("--images", "school", "--out", out, *SHORT, *named)
    domix(params, "finetune", model, *given, *arguments)


def test_a_timm_model_is_tuned_and_its_folder_opens_for_foreign_images(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    tune(params, "--share", "0.25", "--test", "emoji")
    said = capsys.readouterr().out
    assert "fine-tuning on 36 images of 12 classes of school\nthe epoch is chosen on 12 images of school\n" in said
    assert "epoch 1: rate 7.81e-06, loss " in said and "the fine-tuned model is tuned\n" in said
    assert {path.name for path in Path("tuned").iterdir()} == {
        *("model.safetensors", "config.json", "log.csv", "done.json", "accuracy.csv")
    }
    config = read_json(Path("tuned/config.json"))
    assert config["encoder"] == {"tower": {"timm": "test_resnet", "outputs": 7}, "width": 96, "image_size": 160}
    assert (config["classes"], config["first_class"], config["epoch"]) == (sorted(WORDS), 0, 1)
    assert config["recipe"]["name"] == "deit" and config["recipe"]["ema"] == 0.5 and config["recipe"]["batch"] == 8
    assert config["start"]["model"] == TIMM and config["chosen_on"] == {"images": "school", "samples": 12}
    weights = load_file("tuned/model.safetensors")
    assert weights["head.weight"].shape == (12, 96) and not any("fc" in name for name in weights)

    model, _ = load_any_classifier(Path("tuned"))
    own = open_backbone(TIMM, "resnet.safetensors", output="tower")
    opened = open_backbone("tuned", output="logits", classes=12)
    assert opened.encoder.preprocess == own.encoder.preprocess
    noise = torch.randint(0, 256, (3, 3, 160, 160), dtype=torch.uint8)
    with torch.inference_mode():
        wanted = model(own.encoder.preprocess.normalise(noise))
    torch.testing.assert_close(opened.encoder.forward(noise).output, wanted, rtol=1e-4, atol=1e-6)
    assert of_classifier("tuned", None, "tower", device="cpu").outputs(WORDS) == [sorted(WORDS).index(w) for w in WORDS]

    first, table = printed(params, capsys, *SETS, "--score", "msp,energy,knn,vim", model="tuned")
    assert "; balanced accuracy of the head " in first and table["score"].tolist() == ["msp", "energy", "knn", "vim"]
    balanced = pd.read_csv("tuned/accuracy.csv").set_index(["domain", "cells"])["balanced_top1"]
    assert len(balanced) > 1 and (Path("tuned/log.csv").read_text().count("\n")) == 2
    assert json.loads(Path("tuned/done.json").read_text())["epoch"] == 1


@pytest.mark.parametrize("kind", ["clip", "torchvision", "classifier"])
def test_towers_of_every_kind_are_built_again(params: Params, kind: str) -> None:
    given: dict[str, tuple[str, ...]] = {"clip": (MODEL,), "classifier": ("before",)}
    if kind == "torchvision":
        torch.manual_seed(0)
        save_file(weights_of(torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=5)), "net.safetensors")
        given["torchvision"] = ("net.safetensors", "--architecture", "torchvision/shufflenet_v2_x0_5")
    if kind == "classifier":
        tune(params, out="before")
    model, *more = given[kind]
    tune(params, *more, model=model)
    built = read_json(Path("tuned/config.json"))["encoder"]["tower"]
    assert kind in built
    found = open_backbone("tuned", output="logits")
    images = torch.randint(0, 256, (2, 3, *found.encoder.preprocess.size), dtype=torch.uint8)
    weights = load_file("tuned/model.safetensors")
    features = open_backbone("tuned", output="tower").encoder.forward(images).output
    wanted = features @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(found.encoder.forward(images).output, wanted, rtol=1e-4, atol=1e-5)


def test_other_commands_and_lists_take_the_folder(params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    tune(params)
    domix(params, "signature", "tuned")
    table = pd.read_csv(io.StringIO(capsys.readouterr().out.split("the fine-tuned model is tuned\n")[1]), sep=r"\s+")
    assert set(table["width"]) == {96}
    entries = [{"name": "tuned", "model": "tuned", "group": "fine-tuned"}]
    entries.append({"name": "probe", "model": MODEL, "group": "CLIP", "features": "tower", "probe": "labels"})
    write_json(Path("models.json"), {"models": entries})
    domix(params, "ood", "models.json", *SETS, "--train", "school", "--score", "energy,knn")
    said = capsys.readouterr().out
    assert said.count("\ntuned: trained on: 48 images of school") == 1
    lines = [line.split() for line in said.splitlines()]
    assert [line[0] for line in lines if "energy" in line and "odd" in line] == ["tuned", "probe"]
    write_json(Path("zoo.json"), {"models": entries[:1]})
    domix(params, "zoo", "zoo.json", "--images", "emoji", "--out", "found")
    assert pd.read_csv("found/tables/models.csv")["name"].tolist() == ["tuned"]
    encoder, sha256 = open_encoder(params, "tuned", None, here(Path(".cache"), 16))  # of domix concepts
    assert encoder.preprocess == open_backbone("tuned", output="tower").encoder.preprocess
    assert encoder.forward(torch.zeros(1, 3, *encoder.preprocess.size)).output.shape == (1, 12)
    assert sha256 == read_json(Path("tuned/done.json"))["weights_sha256"]
    domix(params, "evaluate-model", "tuned")
    assert "balanced_top1" in capsys.readouterr().out


def test_the_epoch_is_chosen_on_the_split_or_the_set_that_is_named(
    params: Params, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(Path("exam"), {WORDS[3]: 3, WORDS[0]: 2}, first=50)
    seen: list[tuple[list[int], list[int]]] = []
    real = finetune_deit.fine_tune

    def watched(start, train, validation, *rest, **options):
        seen.append((train.labels, validation.labels))
        pixels = np.asarray(validation[0][0])
        assert pixels.shape == (40, 36, 3) and validation[0][1] == validation.labels[0]
        return real(start, train, validation, *rest, **options)

    monkeypatch.setattr(finetune_deit, "fine_tune", watched)
    tune(params, "--validate", "exam")
    assert "the epoch is chosen on 5 images of exam" in capsys.readouterr().out
    names = sorted(WORDS)
    assert sorted(seen[0][1]) == sorted([names.index(WORDS[3])] * 3 + [names.index(WORDS[0])] * 2)
    assert len(seen[0][0]) == 48
    before = Path("tuned/model.safetensors").read_bytes()
    monkeypatch.setattr(finetune_deit, "fine_tune", None)
    tune(params, "--validate", "exam", "--test", "emoji")
    assert Path("tuned/accuracy.csv").exists() and Path("tuned/model.safetensors").read_bytes() == before
    with pytest.raises(ParameterError, match=r"^tuned is there already, and not of this call: name a new folder with"):
        tune(params, "--validate", "exam", "--seed", "1")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--warmup", "5"], "--warmup is an option of --recipe wise-ft, and not of deit: leave it out"),
        (["--recipe", "wise-ft"], "--warmup-epochs is an option of --recipe deit, and not of wise-ft: leave it out"),
        (["--share", "1"], "--share must be above 0 and below 1, not 1.0"),
        (["--share", "0.2", "--validate", "odd"], "--share is of a split of the training images, and --validate names"),
        (["--validate", "odd"], "--validate odd has images without a class: sort them into <class>/"),
        (
            ["--validate", "others"],
            "--validate others has images of lamp, which is not trained (1 such classes): leave",
        ),
        (["--validate", "nowhere"], "--validate: there is no packed source and no folder nowhere"),
        (["--validate", "school"], "--validate school names the images that are trained on: name others"),
        (
            ["--validate", "emoji", "--test", "emoji"],
            "emoji would both choose the epoch and be reported on: name other",
        ),
        (["--test", "school"], "school would both choose the epoch and be reported on: name other images with --test"),
        (["--batch", "7"], "--batch: batch must be even, as images are mixed in pairs, not 7"),
        (["--batch", "64"], "there are 36 training and 12 validation images: fine-tuning needs a batch of 64 of the"),
        (["--warmup-epochs", "1"], "--warmup-epochs: warmup_epochs must be at least 0 and below the 1 epochs, not 1"),
        (["--ema", "1"], "--ema: ema must be at least 0 and below 1, not 1.0"),
        (["--frozen", "1"], "--frozen: frozen must be at least 0 and below 1, not 1.0"),
        (["--lr", "0"], "--lr: lr must be above 0, not 0.0"),
        (["--images", "singles"], "no class of singles has two images, of which one could choose the epoch: give"),
        (["--images", "odd"], "odd has images without a class to fine-tune on: sort them into <class>/"),
    ],
)
def test_bad_input_is_one_sentence(params: Params, arguments: list[str], says: str) -> None:
    write_folder(Path("others"), {"apple": 1, "lamp": 1}, first=90)
    write_folder(Path("singles"), {"apple": 1, "lamp": 1}, first=95)
    with pytest.raises((DataError, ParameterError)) as caught:
        tune(params, *arguments)
    assert str(caught.value).startswith(says) and "\n" not in told(caught.value)
    assert not Path("tuned").exists()


def test_damaged_folders_are_told_in_one_sentence(params: Params) -> None:
    tune(params)
    path = Path("tuned/config.json")
    config = read_json(path)

    def refused(says: str) -> None:
        for command in (("ood", "tuned", *SETS), ("signature", "tuned")):
            with pytest.raises((DataError, ParameterError)) as caught:
                domix(params, *command)
            assert says in str(caught.value) and "\n" not in told(caught.value), str(caught.value)

    encoder = config["encoder"]
    for changed, says in (
        ({"encoder": encoder | {"tower": {"timm": "test_vit", "outputs": 7}}}, "are another model's: "),
        ({"encoder": encoder | {"tower": {"timm": "no_such", "outputs": 7}}}, "describes a classifier that cannot be"),
        ({"encoder": encoder | {"tower": {"what": "test_vit"}}}, "describes a classifier that cannot be built"),
        ({"encoder": encoder | {"width": 95}}, "head.weight is 12x96 there and 12x95 in the configuration"),
        ({"classes": config["classes"][1:]}, "head.weight is 12x96 there and 11x96 in the configuration"),
        ({"encoder": "tower"}, "describes a classifier that cannot be built"),
    ):
        write_json(path, config | changed)
        refused(says)
    write_json(path, {name: value for name, value in config.items() if name != "classes"})
    refused("describes no classifier: it lacks classes")
    path.unlink()
    refused("tuned describes no model (it has neither open_clip_config.json nor config.json)")
    write_json(path, config)
    Path("tuned/model.safetensors").unlink()
    refused("the weights tuned/model.safetensors are missing")


def test_a_packed_source_is_trained_on_by_its_training_split(
    params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = Path("artifacts/shards/emoji")
    index = read_index(shards)
    write_index(shards, index.assign(split=np.where(index["row"] < 36, "train", "test")).astype(index.dtypes))
    tune(params, "--images", "emoji", "--validate", "emoji")
    said = capsys.readouterr().out
    assert "fine-tuning on 36 images of 12 classes of emoji\nthe epoch is chosen on 12 images of emoji\n" in said
