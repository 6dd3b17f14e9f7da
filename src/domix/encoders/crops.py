"""How published classifiers and backbones read an image: resized to more than they read, then the centre cut out.

timm and torchvision resize and crop with Pillow by torchvision's own transforms, as do these, equal to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domix.encoders.preprocess import Preprocess, square
from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MARGIN = 256 / 224  # of what is resized over what is read, in the reference's baselines


@dataclass(frozen=True)
class Cropped(Preprocess):
    """A square that is cut out of the middle of a larger image.

    Attributes:
        resize: pixels of the shorter side before the crop; of both sides where `resize_mode` is squash.
    """

    resize: int = 0

    def cut(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop an RGB image: uint8 [H, W, 3]."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        sides = [self.resize] * (2 if self.resize_mode == "squash" else 1)
        picture: Any = image  # which these functions take, though their types do not say so
        return np.asarray(F.center_crop(F.resize(picture, sides, InterpolationMode(self.interpolation)), [*self.size]))

    def __str__(self) -> str:
        """Say it in words."""
        return f"{super().__str__()}, cut out of {self.resize}"


def from_timm(described: dict[str, Any], *, which: str) -> Cropped:
    """Read timm's data configuration of a model (`timm.data.resolve_model_data_config`); `which` names the model.

    Raises:
        DataError: it asks for what is not done here: images that are not square or not RGB, borders, other filters.
    """
    channels, height, width = described["input_size"]
    mode, interpolation = described.get("crop_mode") or "center", described["interpolation"]
    if (channels, height) != (3, width):
        raise DataError(f"{which} reads images {tuple(described['input_size'])}, not square ones of three channels")
    if mode not in ("center", "squash") or interpolation not in ("bicubic", "bilinear"):
        raise DataError(
            f"{which} asks for images with crop mode {mode} and filter {interpolation}, but only center or squash, and"
            " bicubic or bilinear, are done here"
        )
    return Cropped(
        (height, width),
        tuple(described["mean"]),
        tuple(described["std"]),
        interpolation=interpolation,
        resize_mode="squash" if mode == "squash" else "shortest",
        resize=math.floor(height / described["crop_pct"]),
    )


def from_torchvision(described: Any, *, which: str) -> Cropped:
    """Read the transform of torchvision's weights (`weights.transforms()`); `which` names the model.

    Raises:
        DataError: it asks for another filter.
    """
    if described.interpolation.value not in ("bicubic", "bilinear"):
        raise DataError(f"{which} asks for images with filter {described.interpolation.value}, which is not done here")
    return Cropped(
        (described.crop_size[0],) * 2,
        tuple(described.mean),
        tuple(described.std),
        interpolation=described.interpolation.value,
        resize=described.resize_size[0],
    )


def of_classifier_folder(config: Mapping[str, Any]) -> Preprocess:
    """Return how a classifier of Domix's reads images, by its config.json; a fine-tuned one as the model it was."""
    if (described := config.get("preprocess")) is None:
        return square(config["encoder"]["image_size"])
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in described.items()
    }
    return Cropped(**values) if "resize" in values else Preprocess(**values)


def plp_backbone() -> Preprocess:
    """Return how PLP's code lets backbones without a text tower read images: squashed to 224, bicubic, uncut."""
    return Preprocess((224, 224), IMAGENET_MEAN, IMAGENET_STD, resize_mode="squash")


def plp_baseline(name: str) -> Cropped:
    """Return how PLP's code lets timm's classifiers read images: squashed bilinearly, then the centre cut out.

    The side is 384 or 256 where the model's `name` holds that number, else 224.
    """
    side = next((side for side in (384, 256) if str(side) in name), 224)
    return Cropped(
        (side, side),
        IMAGENET_MEAN,
        IMAGENET_STD,
        interpolation="bilinear",
        resize_mode="squash",
        resize=int(MARGIN * side),
    )
