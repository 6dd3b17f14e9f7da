"""DeiT's recipe, piece by piece: images, repeats, optimiser, averages, the head, what is frozen and held out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from timm.data.auto_augment import RandAugment
from timm.data.random_erasing import RandomErasing
from timm.data.transforms import RandomResizedCropAndInterpolation
from torch import nn
from torchvision.transforms import InterpolationMode, Normalize, RandomHorizontalFlip

from domix.encoders.classifiers import HeadedTower, build_classifier
from domix.encoders.crops import Cropped, of_classifier_folder
from domix.encoders.preprocess import square
from domix.encoders.split import split_classifier, split_clip, split_timm
from domix.finetuning import deit_training
from domix.finetuning.deit import FineTuning, TrainingImages
from domix.finetuning.deit_training import FineTuningModule, TowerStart, fine_tune, freeze, width_of
from domix.finetuning.packed import hold_out
from domix.model.classifier import build as build_supervised
from domix.model.clip import build
from domix.model.zero_shot_classifier import ZeroShotClassifier
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from tests.public_models import VIT
from tests.tiny import CONFIG, TRAINER

SHORT = FineTuning(epochs=2, cooldown=1, warmup_epochs=0, batch=4, ema=0.25)


def tiny() -> HeadedTower:
    torch.manual_seed(0)
    return HeadedTower(split_timm(timm.create_model("test_vit")).tower, 64, 5)


def module(recipe: FineTuning = SHORT) -> FineTuningModule:
    made = FineTuningModule(tiny(), recipe, square(160))
    made._trainer = type("Alone", (), {"world_size": 1})()  # ty: ignore
    return made


def test_training_images_are_deits() -> None:
    """DeiT's build_transform: 8 to 100 % of the area, bicubic, flips, RandAugment m9 n2, a quarter erased by noise."""
    preprocess = Cropped((96, 96), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), resize=110)
    steps = TrainingImages([], preprocess).transform.transforms
    crop, flip, augment, erase = (
        next(step for step in steps if isinstance(step, kind))
        for kind in (RandomResizedCropAndInterpolation, RandomHorizontalFlip, RandAugment, RandomErasing)
    )
    assert (crop.size, crop.scale, crop.ratio) == ((96, 96), (0.08, 1.0), (3 / 4, 4 / 3))
    assert crop.interpolation == InterpolationMode.BICUBIC and flip.p == 0.5
    assert augment.num_layers == 2
    assert {(op.magnitude, op.magnitude_std, op.prob) for op in augment.ops} == {(9, 0.5, 0.5)}
    assert {op.name for op in augment.ops} >= {"PosterizeIncreasing", "SolarizeIncreasing", "ContrastIncreasing"}
    assert (erase.probability, erase.rand_color, erase.per_pixel, erase.max_count) == (0.25, False, True, 1)
    (normalise,) = (step for step in steps if isinstance(step, Normalize))
    assert normalise.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert normalise.std.tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_the_optimiser_is_adamw_and_lets_weights_alone_decay() -> None:
    made = module(FineTuning(batch=64))
    optimiser = made.configure_optimizers()
    assert isinstance(optimiser, torch.optim.AdamW)
    names = {id(parameter): name for name, parameter in made.model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert set(decay) == set(names.values())
    spared = ("visual.visual.pos_embed", "visual.visual.cls_token")
    for name, parameter in made.model.named_parameters():
        assert decay[name] == (0.0 if parameter.ndim == 1 or name in spared else 0.05), name
    assert {group["betas"] for group in optimiser.param_groups} == {(0.9, 0.999)}
    assert {group["eps"] for group in optimiser.param_groups} == {1e-8}
    assert {group["lr"] for group in optimiser.param_groups} == {1e-6}  # where the warm-up begins


def test_averaged_weights_move_by_one_less_the_decay_with_buffers_too() -> None:
    made = FineTuningModule(HeadedTower(nn.BatchNorm1d(3), 3, 2), SHORT, square(8))
    before = {name: tensor.clone() for name, tensor in made.average.module.state_dict().items()}
    with torch.no_grad():
        for tensor in made.model.state_dict().values():
            tensor += 2
    made.on_train_batch_end(None, None, 0)
    for name, tensor in made.average.module.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.25 * before[name] + 0.75 * (before[name] + 2))


def test_the_head_is_drawn_by_deits_distribution() -> None:
    torch.manual_seed(0)
    head = HeadedTower(nn.Identity(), 512, 1000).head
    assert float(head.weight.detach().std()) == pytest.approx(0.02, rel=0.01)
    assert not head.bias.any() and head.bias.shape == (1000,)


def test_an_epoch_sees_three_views_of_a_third_of_the_images_and_other_ones_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watched(TrainingImages):
        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            seen.append(index)
            return super().__getitem__(index)

    monkeypatch.setattr(deit_training, "TrainingImages", Watched)
    pictures = [(Image.new("RGB", (36, 36), (8 * n, 20, 90)), n % 2) for n in range(24)]
    tower = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    start = TowerStart(tower, ["dark", "light"], square(32))
    fine_tune(start, pictures, pictures[:3], SHORT, out=tmp_path / "tuned", trainer=TRAINER)
    epochs = np.array(seen).reshape(3, 24)
    for rows in epochs:
        assert np.unique(rows, return_counts=True)[1].tolist() == [3] * 8
    assert len({tuple(sorted(set(rows.tolist()))) for rows in epochs}) == 3


def test_the_first_weights_are_frozen_up_to_a_share() -> None:
    tower = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, bias=False), nn.Linear(4, 2))  # 16, 4, 16, 8, 2: 46 numbers
    for share, frozen in ((0.0, 0), (0.34, 0), (0.35, 1), (0.44, 2), (0.8, 3), (0.99, 4)):
        tower.requires_grad_()
        freeze(tower, share)
        assert [not p.requires_grad for p in tower.parameters()] == [True] * frozen + [False] * (5 - frozen), share
    made = module(FineTuning(frozen=0.5))
    held = [p for p in made.model.visual.parameters() if not p.requires_grad]
    whole = sum(p.numel() for p in made.model.visual.parameters())
    assert 0.2 < sum(p.numel() for p in held) / whole <= 0.5 and made.model.head.weight.requires_grad
    given = {id(p) for group in made.configure_optimizers().param_groups for p in group["params"]}
    assert not given & {id(p) for p in held}


def test_a_share_of_every_class_is_held_out_by_seed() -> None:
    rows = pd.DataFrame({"label": [0] * 20 + [1] * 5 + [2] * 2 + [3], "row": range(28)})
    trained, held = hold_out(rows, 0.1, seed=0)
    assert held["label"].tolist() == [0, 0, 1, 2] and len(trained) == 24
    assert sorted([*trained["row"], *held["row"]]) == list(range(28)) and held["row"].is_monotonic_increasing
    assert hold_out(rows, 0.1, seed=0)[1].equals(held) and not hold_out(rows, 0.1, seed=1)[1].equals(held)
    assert hold_out(rows, 0.5, seed=0)[1]["label"].tolist() == [0] * 10 + [1] * 3 + [2]
    assert hold_out(rows, 0.99, seed=0)[1]["label"].tolist() == [0] * 19 + [1] * 4 + [2]


def test_how_images_are_read_survives_the_folder(tmp_path: Path) -> None:
    preprocess = Cropped((32, 32), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), interpolation="bilinear", resize=37)
    pictures = [(Image.new("RGB", (36, 36), (8 * n, 20, 90)), n % 2) for n in range(8)]
    tower = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    tower.append(nn.Linear(3, 4))
    start = TowerStart(tower, ["dark", "light"], preprocess)
    found = fine_tune(start, pictures, pictures, SHORT, out=tmp_path / "tuned", trainer=TRAINER)
    config = read_json(tmp_path / "tuned/config.json")
    assert of_classifier_folder(config) == preprocess
    log = pd.read_csv(tmp_path / "tuned/log.csv")
    assert log.to_dict("records") == [pytest.approx(row) for row in found.log]
    assert log["epoch"].tolist() == [1, 2, 3] and list(log) == ["epoch", "lr", "loss", "accuracy"]


@pytest.mark.parametrize(
    ("described", "tower"),
    [
        ({"clip": CONFIG}, lambda: split_clip(build(CONFIG, seed=1).visual).tower),
        ({"clip": VIT}, lambda: split_clip(build(VIT, seed=1).visual).tower),
        ({"timm": "test_convnext", "outputs": 9}, lambda: split_timm(timm.create_model("test_convnext")).tower),
        ({"timm": "test_vit", "outputs": 0}, lambda: split_timm(timm.create_model("test_vit", num_classes=0)).tower),
        (
            {"classifier": {"clip": CONFIG, "image_size": 32}, "outputs": 3},
            lambda: split_classifier(build_supervised({"clip": CONFIG}, outputs=7, seed=1)).tower,
        ),
        (
            {"classifier": {"timm": "test_resnet", "image_size": 32}, "outputs": 3},
            lambda: split_classifier(build_supervised({"timm": "test_resnet"}, outputs=7, seed=1)).tower,
        ),
        (
            {"classifier": {"zero_shot": CONFIG, "image_size": 32}, "outputs": 3},
            lambda: split_classifier(ZeroShotClassifier(build(CONFIG, seed=1).visual, nn.Linear(16, 4))).tower,
        ),
    ],
)
def test_a_tower_is_built_again_and_holds_the_weights_of_the_first(described: dict, tower: Callable) -> None:
    first, state = tower().eval(), torch.random.get_rng_state()
    again = build_classifier({"tower": described, "width": 16, "image_size": 32}, 2).visual.eval()
    assert torch.equal(torch.random.get_rng_state(), state)  # nobody else's draws change
    again.load_state_dict(first.state_dict())
    size = 160 if described.get("timm") == "test_vit" else 32
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        torch.testing.assert_close(again(images), first(images))
    assert not any(name.split(".")[-2:-1] in (["fc"], ["classifier"]) for name in again.state_dict())


def test_a_tower_of_maps_is_refused() -> None:
    start = TowerStart(nn.Conv2d(3, 4, 3), ["a", "b"], square(8))
    with pytest.raises(DataError, match=r"^the tower gives \(1, 4, 6, 6\) for an image, no vector: a head cannot"):
        width_of(start)
