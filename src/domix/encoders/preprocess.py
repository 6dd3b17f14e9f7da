"""How a model reads an image: resized, cropped and normalised exactly as open_clip does it to evaluate (Pillow).

A model trained here reads the central square, resized bicubically, with CLIP's mean and deviation; published weights
come with a description of their own, open_clip's or transformers'.

Shapes: B batch, H x W the size that the model reads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from domix.data.loading.augment import CLIP_MEAN, CLIP_STD
from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

Interpolation = Literal["bicubic", "bilinear"]
ResizeMode = Literal["shortest", "longest", "squash"]
RESAMPLING: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, as transformers writes them


@dataclass(frozen=True)
class Preprocess:
    """What is done to an image before a model reads it; open_clip's `PreprocessCfg`, for RGB images.

    Attributes:
        size: (height, width) in pixels.
        mean, std: of each channel, for values in 0..1.
        interpolation: of resizing, always antialiased.
        resize_mode: shortest: the shorter side to the size, then the centre is cropped; longest: the longer side, then
            the rest is filled; squash: both sides, whatever the proportions.
        fill: grey level of what is filled.
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD
    interpolation: Interpolation = "bicubic"
    resize_mode: ResizeMode = "shortest"
    fill: int = 0

    def cut(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an RGB image: uint8 [H, W, 3]."""
        for step in _steps(self):
            image = step(image)
        return np.asarray(image)

    def normalise(self, images: Tensor) -> Tensor:
        """Scale images [B, 3, H, W] in 0..255 to float32 of the model's zero mean and unit variance."""
        import torch

        scaled = images.float().div(255)
        mean, std = (torch.tensor(values, dtype=scaled.dtype, device=scaled.device) for values in (self.mean, self.std))
        if not scaled.is_contiguous(memory_format=torch.channels_last):
            return scaled.sub_(mean[:, None, None]).div_(std[:, None, None])
        # In whole rows of pixels: a broadcast over the few channels, which lie innermost, is many times slower.
        rows, width = scaled.permute(0, 2, 3, 1).flatten(2), scaled.shape[3]
        rows = rows.sub_(mean.repeat(width)).div_(std.repeat(width))
        return rows.unflatten(2, (width, len(mean))).permute(0, 3, 1, 2)

    def __str__(self) -> str:
        """Say it in words."""
        clip = (self.mean, self.std) == (CLIP_MEAN, CLIP_STD)
        numbers = "CLIP's mean and deviation" if clip else f"mean {self.mean} and deviation {self.std}"
        height, width = self.size
        ways = {"shortest": "central square", "longest": f"whole, filled with grey {self.fill}", "squash": "squashed"}
        return f"{ways[self.resize_mode]}, antialiased {self.interpolation} to {height} x {width}, {numbers}"


def square(side: int) -> Preprocess:
    """Return how a model trained here reads images, `side` pixels square."""
    return Preprocess((side, side))


@cache
def _steps(preprocess: Preprocess) -> list[Callable[[Image.Image], Image.Image]]:
    """Return open_clip's own steps, up to the one that makes a tensor of the image."""
    from open_clip.transform import image_transform

    height, width = preprocess.size
    whole = image_transform(
        height if height == width else (height, width),
        is_train=False,
        mean=preprocess.mean,
        std=preprocess.std,
        resize_mode=preprocess.resize_mode,
        interpolation=preprocess.interpolation,
        fill_color=preprocess.fill,
    )
    return list(whole.transforms[:-2])


def from_open_clip(described: dict[str, Any], *, size: int, which: str) -> Preprocess:
    """Read open_clip's description (`preprocess_cfg`, or that of a tag of weights); `which` names the model.

    Raises:
        DataError: it asks for what open_clip does not do either, or for another size than the model's, or is no
            description.
    """
    wanted = {
        "resize_mode": ("shortest", "longest", "squash"),
        "interpolation": ("bicubic", "bilinear", "random"),
        "size": (size, [size, size], (size, size)),
        "mode": ("RGB",),
    }
    for key, values in wanted.items():
        found = described.get(key)
        _require(found is None or found in values, which, key, found, values)
    bilinear = described.get("interpolation") == "bilinear"  # random: what augments by chance evaluates bicubically
    return Preprocess(
        (size, size),
        *_numbers(described.get("mean"), described.get("std"), which),
        interpolation="bilinear" if bilinear else "bicubic",
        resize_mode=described.get("resize_mode") or "shortest",
        fill=_grey(described.get("fill_color"), which),
    )


def from_transformers(described: dict[str, Any], *, size: int, which: str) -> Preprocess:
    """Read the description of transformers' CLIPImageProcessor (preprocessor_config.json); `which` names the model.

    One that crops nothing and gives height and width squashes (SigLIP's).

    Raises:
        DataError: it asks for what is not done here, or is no description.
    """
    for key in ("do_resize", "do_rescale", "do_normalize"):
        _require(described.get(key, True) is True, which, key, described.get(key), (True,))
    resample = described.get("resample", 3)
    _require(resample in RESAMPLING, which, "resample", resample, tuple(RESAMPLING))
    factor = described.get("rescale_factor", 1 / 255)
    _require(abs(factor * 255 - 1) < 1e-6, which, "rescale_factor", factor, (1 / 255,))
    whole, edge = {"height": size, "width": size}, {"shortest_edge": size}
    squash = described.get("size") == whole and not described.get("do_center_crop", "crop_size" in described)
    if not squash:
        _require(described.get("do_center_crop", True) is True, which, "do_center_crop", False, (True,))
        _require(described.get("size", size) in (size, edge), which, "size", described.get("size"), (edge,))
        crop = described.get("crop_size", size)
        _require(crop in (size, whole), which, "crop_size", crop, (whole,))
    return Preprocess(
        (size, size),
        *_numbers(described.get("image_mean"), described.get("image_std"), which),
        interpolation=RESAMPLING[resample],
        resize_mode="squash" if squash else "shortest",
    )


def _numbers(mean: Any, std: Any, which: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    values = []
    for name, found, default in (("mean", mean, CLIP_MEAN), ("deviation", std, CLIP_STD)):
        taken = default if found is None else found
        good = isinstance(taken, (list, tuple)) and len(taken) == 3 and all(isinstance(v, (int, float)) for v in taken)
        if not good or (name == "deviation" and min(taken) <= 0):
            raise DataError(f"{which}: its images' {name} is {taken!r}, not three numbers")
        values.append(tuple(float(value) for value in taken))
    return values[0], values[1]


def _grey(found: Any, which: str) -> int:
    good = found is None or (isinstance(found, int) and 0 <= found <= 255)
    _require(good, which, "fill_color", found, ("a grey level from 0 to 255",))
    return found or 0


def _require(good: bool, which: str, key: str, found: Any, values: tuple[Any, ...]) -> None:
    if not good:
        known = " or ".join(dict.fromkeys(map(str, values)))
        raise DataError(f"{which} asks for images with {key} {found!r}, but only {known} is done here")
