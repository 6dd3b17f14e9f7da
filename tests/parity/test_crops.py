"""Images read as timm and torchvision read them, and as PLP's code does: every bit of their own transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms
from torchvision.models import get_model_weights
from torchvision.transforms import InterpolationMode

from domix.encoders.crops import from_timm, from_torchvision, plp_backbone, plp_baseline
from domix.encoders.preprocess import Preprocess
from domix.runtime.errors import DataError

SIZES = [(64, 64), (260, 240), (200, 31), (97, 331), (300, 301)]  # width, height
TIMM = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "crop_mode": "center"}
IMAGENET = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def image(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def assert_same(ours: Preprocess, theirs) -> None:
    for width, height in SIZES:
        cut = torch.from_numpy(ours.cut(image(width, height)).copy()).permute(2, 0, 1)[None]
        torch.testing.assert_close(ours.normalise(cut)[0], theirs(image(width, height)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("side", "share"), [(64, 0.9), (33, 0.875), (48, 1.0)])
def test_timms(side: int, share: float, interpolation: str, mode: str) -> None:
    described = TIMM | {
        "input_size": (3, side, side),
        "crop_pct": share,
        "interpolation": interpolation,
        "crop_mode": mode,
    }
    assert_same(from_timm(described, which="m"), create_transform(**described, is_training=False))


@pytest.mark.parametrize("name", ["resnet18", "swin_t", "convnext_tiny"])
def test_torchvisions(name: str) -> None:
    described = get_model_weights(name).DEFAULT.transforms()
    assert_same(from_torchvision(described, which=name), described)


def test_plps_backbones_see_the_whole_image_squashed() -> None:
    theirs = transforms.Resize((224, 224), InterpolationMode.BICUBIC)
    assert_same(plp_backbone(), transforms.Compose([theirs, transforms.ToTensor(), IMAGENET]))


@pytest.mark.parametrize(("name", "side"), [("vit_b_384", 384), ("deit3_256", 256), ("resnet50", 224)])
def test_plps_baselines_cut_a_squashed_image(name: str, side: int) -> None:
    resized = int(256 * side / 224)
    steps = [transforms.Resize((resized, resized)), transforms.CenterCrop(side), transforms.ToTensor(), IMAGENET]
    assert_same(plp_baseline(name), transforms.Compose(steps))


@pytest.mark.parametrize(
    "change",
    [{"crop_mode": "border"}, {"interpolation": "lanczos"}, {"input_size": (3, 32, 64)}, {"input_size": (1, 32, 32)}],
)
def test_what_is_not_done_here_is_refused(change: dict) -> None:
    described = TIMM | {"input_size": (3, 32, 32), "crop_pct": 1.0, "interpolation": "bicubic"} | change
    with pytest.raises(DataError, match=r"^a model "):
        from_timm(described, which="a model")
