"""What a model expects of its pictures, from the descriptions that come with published weights.

Pictures to evaluate on are cut to their central square and resized by an antialiased bicubic filter, as CLIP's own are.
Models may differ in mean and deviation. A model that wants another cut or another filter is refused: its numbers would
not be its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from domix.data.augment import CLIP_MEAN, CLIP_STD
from domix.runtime.errors import DataError

BICUBIC = 3  # Pillow's number, as transformers writes it


@dataclass(frozen=True)
class Preprocess:
    """Mean and deviation of each of the three channels, for pictures in 0..1."""

    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD


def from_open_clip(described: dict[str, Any], *, size: int, which: str) -> Preprocess:
    """Read open_clip's description (`preprocess_cfg`, or that of a tag of weights); `which` names the model.

    Raises:
        DataError: it asks for what is not done here, or is no description.
    """
    wanted = {"resize_mode": "shortest", "interpolation": "bicubic", "size": size, "mode": "RGB"}
    for key, value in wanted.items():
        found = described.get(key)
        _require(found is None or found in (value, [value, value], (value, value)), which, key, found, value)
    return _checked(described.get("mean"), described.get("std"), which)


def from_transformers(described: dict[str, Any], *, size: int, which: str) -> Preprocess:
    """Read the description of transformers' CLIPImageProcessor (preprocessor_config.json); `which` names the model.

    Raises:
        DataError: it asks for what is not done here, or is no description.
    """
    for key in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        _require(described.get(key, True) is True, which, key, described.get(key), True)
    _require(described.get("resample", BICUBIC) == BICUBIC, which, "resample", described.get("resample"), BICUBIC)
    factor = described.get("rescale_factor", 1 / 255)
    _require(abs(factor * 255 - 1) < 1e-6, which, "rescale_factor", factor, 1 / 255)
    edge = {"shortest_edge": size}
    _require(described.get("size", size) in (size, edge), which, "size", described.get("size"), edge)
    square = {"height": size, "width": size}
    _require(described.get("crop_size", size) in (size, square), which, "crop_size", described.get("crop_size"), square)
    return _checked(described.get("image_mean"), described.get("image_std"), which)


def _checked(mean: Any, std: Any, which: str) -> Preprocess:
    values = []
    for name, found, default in (("mean", mean, CLIP_MEAN), ("deviation", std, CLIP_STD)):
        taken = default if found is None else found
        good = isinstance(taken, (list, tuple)) and len(taken) == 3 and all(isinstance(v, (int, float)) for v in taken)
        if not good or (name == "deviation" and min(taken) <= 0):
            raise DataError(f"{which}: its pictures' {name} is {taken!r}, not three numbers")
        values.append(tuple(float(value) for value in taken))
    return Preprocess(mean=values[0], std=values[1])


def _require(good: bool, which: str, key: str, found: Any, wanted: Any) -> None:
    if not good:
        raise DataError(
            f"{which} asks for pictures with {key} {found!r}, but only {wanted!r} is done here: pictures are cut to"
            " their central square and resized bicubically to the model's size"
        )
