"""Fine-tuning: DeiT's rates, averaged weights, the epoch that a validation split chooses, and what is refused."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from domix.encoders.classifiers import HeadedTower
from domix.encoders.preprocess import square
from domix.encoders.split import split_timm
from domix.finetuning.deit import FineTuning, TrainingImages, ValidationImages
from domix.finetuning.deit_training import FineTuningModule, TowerStart, fine_tune
from domix.model.checkpoint import load_tensors, load_weights
from domix.runtime.errors import DataError, ParameterError
from tests.tiny import TRAINER

SHORT = FineTuning(epochs=6, cooldown=1, warmup_epochs=1, batch=8, lr=0.5, ema=0.5)
COLOURS = [(230, 20, 20), (20, 20, 230), (20, 230, 20)]


class Colour(nn.Module):
    """A tower that sees the mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.mean(dim=(2, 3)))


def tower() -> nn.Module:
    torch.manual_seed(1)
    return Colour()


def pictures(n: int) -> list[tuple[Image.Image, int]]:
    return [(Image.new("RGB", (40, 36), COLOURS[k % 3]), k % 3) for k in range(n)]


def tune(out: Path, recipe: FineTuning = SHORT, **changed):
    given = {"train": pictures(24), "validation": pictures(9), "trainer": TRAINER} | changed
    return fine_tune(TowerStart(tower(), ["red", "blue", "green"], square(32)), recipe=recipe, out=out, **given)


def test_a_tower_learns_and_the_chosen_weights_are_written(tmp_path: Path) -> None:
    found = tune(tmp_path / "tuned")
    assert len(found.accuracies) == 7
    assert found.accuracies[found.epoch - 1] == max(found.accuracies) > 0.6
    assert found.epoch == 1 + found.accuracies.index(max(found.accuracies))
    again = HeadedTower(tower(), 4, 3)
    load_weights(again, tmp_path / "tuned/model.safetensors")
    for name, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, found.model.state_dict()[name], rtol=0, atol=0)
    images, labels = zip(*[ValidationImages(pictures(9), square(32))[k] for k in range(9)], strict=True)
    with torch.inference_mode():
        logits = found.model(square(32).normalise(torch.stack(images)))
    right = (logits.argmax(dim=1).numpy() == np.array(labels)).mean()
    assert right == pytest.approx(found.accuracies[found.epoch - 1])


def test_the_folder_holds_the_chosen_averages_and_not_the_last_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[dict[str, torch.Tensor]] = []
    end = FineTuningModule.on_validation_epoch_end

    def watched(self: FineTuningModule) -> None:
        end(self)
        kept.append(self.best)

    monkeypatch.setattr(FineTuningModule, "on_validation_epoch_end", watched)
    found = tune(tmp_path / "tuned")
    written = load_tensors(tmp_path / "tuned/model.safetensors")
    for name, tensor in kept[-1].items():
        assert torch.equal(written[name], tensor) and torch.equal(found.model.state_dict()[name], tensor)


def test_equal_calls_end_alike_and_another_seed_elsewhere(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in "abc")
    assert tune(one).log == tune(two).log
    tune(other, seed=1)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (one, two, other)]
    assert weights[0] == weights[1] != weights[2]
    assert (one / "log.csv").read_bytes() == (two / "log.csv").read_bytes() != (other / "log.csv").read_bytes()


def test_nobody_elses_draws_change(tmp_path: Path) -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    random.seed(3), np.random.seed(3), tower()  # which seeds torch
    wanted = draws()
    random.seed(3), np.random.seed(3)
    tune(tmp_path / "tuned", replace(SHORT, epochs=2))
    assert draws() == wanted


def test_rates_of_epochs_are_deits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    start = FineTuningModule.on_train_epoch_start

    def watched(self: FineTuningModule) -> None:
        start(self)
        assert self.model.training
        seen.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    monkeypatch.setattr(FineTuningModule, "on_train_epoch_start", watched)
    recipe = FineTuning(epochs=10, cooldown=2, warmup_epochs=3, batch=8, lr=0.64, ema=0.5)
    tune(tmp_path / "tuned", recipe)
    peak = 0.64 * 8 / 512
    warm = [1e-6 + t * (peak - 1e-6) / 3 for t in range(3)]
    falling = [1e-5 + 0.5 * (peak - 1e-5) * (1 + math.cos(math.pi * t / 10)) for t in range(3, 10)]
    assert seen == pytest.approx([*warm, *falling, 1e-5, 1e-5], rel=1e-9)


def test_averaged_weights_are_measured(tmp_path: Path) -> None:
    """Averages that never move keep the untrained weights, whose accuracy stays as it was."""
    frozen = FineTuning(epochs=3, cooldown=0, warmup_epochs=0, batch=8, lr=50, ema=0.999999999)
    found = tune(tmp_path / "tuned", frozen)
    assert len(set(found.accuracies)) == 1 and found.epoch == 1


def test_the_weights_of_the_best_epoch_are_kept() -> None:
    module = FineTuningModule(HeadedTower(tower(), 4, 3), SHORT, square(32))
    for epoch, right in enumerate([5, 9, 9, 2]):
        with torch.no_grad():
            module.average.module.head.bias.fill_(epoch)
        module._right, module._seen, module.rate = right, 10, 0.1 * epoch
        module._losses.extend([torch.tensor(1.0), torch.tensor(float(epoch))])
        module.on_validation_epoch_end()
    assert [row["accuracy"] for row in module.log_rows] == [0.5, 0.9, 0.9, 0.2]
    assert module.log_rows[2] == {"epoch": 3, "lr": 0.2, "loss": 1.5, "accuracy": 0.9}
    assert module.best["head.bias"].tolist() == [1, 1, 1]


def test_the_defaults_are_plps() -> None:
    recipe = FineTuning()
    assert (recipe.epochs, recipe.cooldown, recipe.warmup_epochs, recipe.batch) == (100, 10, 5, 64)
    assert (recipe.lr, recipe.warmup_lr, recipe.min_lr, recipe.weight_decay) == (5e-4, 1e-6, 1e-5, 0.05)
    assert (recipe.smoothing, recipe.mixup, recipe.cutmix, recipe.repeats, recipe.ema) == (0.1, 0.8, 1.0, 3, 0.99996)
    assert recipe.peak(4) == pytest.approx(5e-4 * 64 * 4 / 512)


def test_mixing_and_smoothing_are_the_recipes() -> None:
    mix = FineTuningModule(HeadedTower(tower(), 4, 3), FineTuning(), square(32)).mix
    assert (mix.mixup_alpha, mix.cutmix_alpha, mix.label_smoothing, mix.num_classes) == (0.8, 1.0, 0.1, 3)
    assert (mix.mix_prob, mix.switch_prob) == (1.0, 0.5)


def test_biases_norms_and_what_timm_names_do_not_decay() -> None:
    model = HeadedTower(split_timm(timm.create_model("test_vit")).tower, 64, 5)
    assert "visual.visual.pos_embed" in model.no_weight_decay()
    assert model.head.bias.abs().max() == 0 and 0.01 < model.head.weight.std() < 0.03
    assert model.head.weight.abs().max() < 2


def test_training_images_are_augmented_and_normalised() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8))
    views = TrainingImages([(noise, 2)], square(32))
    random.seed(0)
    (one, label), (two, _) = views[0], views[0]
    assert one.shape == (3, 32, 32) and label == 2 and not torch.equal(one, two)
    assert -3 < float(one.min()) < 0 < float(one.max()) < 3.5
    cut, _ = ValidationImages([(noise, 2)], square(32))[0]
    np.testing.assert_array_equal(cut.permute(1, 2, 0).numpy(), square(32).cut(noise))


def test_every_strength_of_every_operation_can_be_drawn() -> None:
    """timm's RandAugment asks Pillow 12 to keep no bit of an image, which it refuses."""
    views = TrainingImages([(Image.new("RGB", (40, 40), (200, 90, 30)), 0)], square(32))
    operations = [each for step in views.transform.transforms for each in getattr(step, "ops", ())]
    posterise = next(each.aug_fn for each in operations if each.name.startswith("Posterize"))
    image = Image.new("RGB", (2, 2), (200, 90, 30))
    assert [posterise(image, bits).getpixel((0, 0)) for bits in (0, 1, 4, 8)] == [
        (0, 0, 0),
        (128, 0, 0),
        (192, 80, 16),
        (200, 90, 30),
    ]


def test_bad_input_is_one_sentence(tmp_path: Path) -> None:
    for changed in ({"train": pictures(7)}, {"validation": []}):
        with pytest.raises(DataError, match=r"^there are \d+ training and \d+ validation images: fine-tuning needs"):
            tune(tmp_path / "tuned", **changed)
    with pytest.raises(DataError, match=r"^fine-tuning diverged in epoch \d: lower the learning rate"):
        tune(tmp_path / "tuned", FineTuning(epochs=4, warmup_epochs=1, batch=8, lr=1e38, ema=0.5))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ParameterError, match=r"^batch must be even"):
        FineTuning(batch=7)
    with pytest.raises(ParameterError, match=r"^warmup_epochs must be at least 0 and below the 5 epochs"):
        FineTuning(epochs=5)
    for wrong in ({"mixup": 0.0, "cutmix": 0.0}, {"mixup": -0.1}, {"smoothing": 1.0}):
        with pytest.raises(ParameterError, match=r"^mixup \S+ and cutmix \S+ must not be below 0, one of them must"):
            FineTuning(**wrong)
    for wrong in ({"epochs": 0}, {"cooldown": -1}):
        with pytest.raises(ParameterError, match=r"^(epochs|cooldown) must not be (0|-1): give one epoch or more"):
            FineTuning(**wrong)
    with pytest.raises(ParameterError, match=r"^ema must be at least 0 and below 1"):
        FineTuning(ema=1.0)
