"""Fine-tuned models: their folder, what a stop does to them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from domix.data.loading.images import Images
from domix.embed.classifier import outputs_of
from domix.encoders.backbones import open_backbone
from domix.encoders.classifiers import load_any_classifier
from domix.encoders.crops import of_classifier_folder
from domix.encoders.preprocess import Preprocess, square
from domix.finetuning.interpolation import along, interpolate, write_interpolated
from domix.finetuning.wise_ft import START, WiseFt, fine_tune
from domix.model.checkpoint import load_tensors
from domix.model.zero_shot_classifier import zero_shot_classifier, zero_shot_head
from domix.runtime.errors import DataError, DomixError, Interrupted, ParameterError
from domix.runtime.files import read_json
from domix.runtime.settings import replace
from domix.train import session
from tests.tiny import TRAINER, WORDS
from tests.tiny_wise_ft import RECIPE, SCALE, make_labelled, make_start, prototypes, tune


def test_the_folder_is_a_classifier_that_reads_images_as_its_model_did(tmp_path: Path) -> None:
    own = Preprocess((32, 32), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), "bilinear", "squash")
    folder = tune(tmp_path, start=make_start(own), about={"images": "photos"})
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {"model.safetensors", "config.json", "log.csv", "done.json", START}
    config = read_json(folder / "config.json")
    assert (config["classes"], config["first_class"], config["images"]) == (WORDS, 0, "photos")
    assert config["recipe"]["warmup"] == 5 and config["start"] == {"weights_sha256": "of a test"}
    assert of_classifier_folder(config) == own
    model, _ = load_any_classifier(folder)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, logits = model.features(images), model(images)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(4))
    tower, head = open_backbone(str(folder), output="tower"), open_backbone(str(folder), output="logits")
    torch.testing.assert_close(tower.encoder.forward(images).output, features)
    torch.testing.assert_close(head.encoder.forward(images).output, logits)
    assert tower.encoder.preprocess == own and isinstance(tower.split.head, nn.Linear)


def test_a_supervised_folder_reads_square_images() -> None:
    assert of_classifier_folder({"encoder": {"image_size": 48}}) == square(48)


def test_what_was_stopped_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tune(tmp_path / "whole")
    on_end = session.Session.on_train_batch_end

    def stop_at_seven(self: Any, *given: Any) -> None:
        self._stop = self.step == 6
        on_end(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(session.Session, "on_train_batch_end", stop_at_seven)
        with pytest.raises(Interrupted, match="stopped after step 7 of 16"):
            tune(tmp_path / "cut")
    assert not (tmp_path / "cut/model").exists() and (tmp_path / "cut/resume").is_dir()
    again = tune(tmp_path / "cut")
    for name in ("model.safetensors", "log.csv", START):
        assert (again / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "cut/resume").exists()


def test_equal_seeds_end_alike_and_others_elsewhere(tmp_path: Path) -> None:
    one, two, other = (tune(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, two, other)]
    assert weights[0] == weights[1] != weights[2]
    assert (one / START).read_bytes() == (other / START).read_bytes()


def test_making_a_head_draws_nothing_and_its_bias_is_zero() -> None:
    torch.manual_seed(0)
    wanted = torch.rand(())
    torch.manual_seed(0)
    head = zero_shot_head(prototypes(), SCALE)
    assert torch.rand(()) == wanted
    assert not head.bias.any() and head.weight.norm(dim=1).allclose(torch.tensor(SCALE))


def test_integer_buffers_go_to_the_nearest_whole_number() -> None:
    start, end = {"n": torch.tensor([0, 7, 10])}, {"n": torch.tensor([10, 7, 0])}
    assert interpolate(start, end, 0.27)["n"].tolist() == [3, 7, 7]
    assert interpolate(start, end, 0.1)["n"].dtype == torch.int64


def test_a_model_in_between_is_a_model(tmp_path: Path) -> None:
    folder = tune(tmp_path)
    write_interpolated(folder, 0.5, tmp_path / "half")
    found, config = load_any_classifier(tmp_path / "half")
    wanted = interpolate(load_tensors(folder / START), load_tensors(folder / "model.safetensors"), 0.5)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in found.state_dict().items())
    assert config["alpha"] == 0.5 and config["classes"] == WORDS


def test_heads_that_do_not_fit_are_refused() -> None:
    tower = make_start().model.visual
    with pytest.raises(DataError, match=r"^the head is 8 wide, but the tower's embeddings 16: take prototypes of this"):
        zero_shot_classifier(tower, zero_shot_head(prototypes(width=8), 1.0), size=32)
    assert not tower.training
    for spoilt in (torch.zeros(3, 4), torch.full((3, 4), torch.nan), torch.ones(4)):
        with pytest.raises(DataError, match=r"^the classes' prototypes must be a matrix of finite rows, none of them"):
            zero_shot_head(spoilt, 1.0)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"^the factor of the zero-shot logits must be positive, not"):
            zero_shot_head(prototypes(), scale)


def test_labels_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    images, labels = make_labelled()
    cases = [
        (labels[:5], r"^there are 5 labels for 24 images: give one an image$"),
        (labels.where(labels != 3, 12), r"^image 3 has the label 12, but the head has 12 classes, numbered from 0: "),
        (labels.where(labels != 3, -1), r"^image 3 has the label -1, but the head has 12 classes"),
        (labels.where(labels < 10, 0), rf"^there is no training image of {WORDS[10]} \(2 such classes\): fine-tuning "),
    ]
    for wrong, said in cases:
        with pytest.raises(DataError, match=said):
            tune(tmp_path, images=images, labels=wrong)
    with pytest.raises(DataError, match=r"^there is no image to fine-tune on: none of them shows a class of the head$"):
        tune(tmp_path, images=Images(torch.zeros(0, 2, dtype=torch.int64)), labels=labels[:0])
    assert not any(tmp_path.iterdir())


def test_recipes_and_images_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"^batch is 256, but there are 24 images: lower it$"):
        tune(tmp_path, WiseFt())
    with pytest.raises(ParameterError, match=r"^checkpoints must hold 0, the start, for interpolation$"):
        tune(tmp_path, replace(RECIPE, checkpoints=[1]))
    with pytest.raises(DataError, match=r"^the model reads images of 32 x 40 pixels: fine-tuning crops square ones"):
        tune(tmp_path, start=make_start(Preprocess((32, 40))))
    assert not any(tmp_path.iterdir())


def test_a_fine_tuning_that_diverges_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DomixError, match=r"^training diverged: .*lower finetune\.lr"):
        tune(tmp_path, replace(RECIPE, lr=1e30, warmup=0))
    assert not (tmp_path / "model").exists()


def test_weights_of_other_models_are_not_interpolated(tmp_path: Path) -> None:
    one = {"a": torch.ones(2)}
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ParameterError, match=r"^alpha must be from 0 to 1, not"):
            interpolate(one, one, alpha)
    with pytest.raises(DataError, match=r"^the two models are not one before and after fine-tuning: one lacks b$"):
        interpolate(one, one | {"b": torch.ones(1)}, 0.5)
    with pytest.raises(DataError, match=r"a is \(2,\) and \(3,\)$"):
        interpolate(one, {"a": torch.ones(3)}, 0.5)
    with pytest.raises(DataError, match=r"holds no model before its fine-tuning: name a folder that domix finetune"):
        next(along(tmp_path, (0.5,)))


def test_fine_tuning_learns(tmp_path: Path) -> None:
    images, labels = make_labelled()
    recipe = replace(RECIPE, epochs=25, lr=1e-2, crop_scale=[1.0, 1.0], crop_ratio=[1.0, 1.0])
    fine_tune(make_start(), images, labels, recipe, out=tmp_path / "m", resume=tmp_path / "r", trainer=TRAINER, seed=0)
    log = (tmp_path / "m/log.csv").read_text().splitlines()
    assert float(log[-1].split(",")[3]) < 0.5 * float(log[1].split(",")[3])


def test_outputs_go_by_names_and_by_place_where_names_are_the_heads_own() -> None:
    assert outputs_of(["crane", "owl", "crane"], 0, ["crane", "owl", "crane"]) == [0, 1, 2]
    assert outputs_of(["owl", "crane", "heron"], 0, ["crane", "owl"]) == [1, 0]
    assert outputs_of(["owl", "crane", "heron"], 0, ["crane", "stork"]) is None
