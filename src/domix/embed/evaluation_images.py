"""Images as a model reads them, before normalisation: made once for all models that read alike and all their weights.

<folder>/<digest>/pixels.npy   uint8 [N, H, W, 3], in the order asked for

The digest stands for the images, their order, how they are resized and cropped, and the code that does it.

Shapes: N images, B batch, H x W what the model reads.
"""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from domix.data.loading.image_cache import digest_of_images
from domix.data.loading.samples import Reader
from domix.encoders.cutting import fill_images
from domix.encoders.preprocess import Preprocess
from domix.runtime.ahead import ahead
from domix.runtime.arrays import new_array
from domix.runtime.code_digest import code_digest
from domix.runtime.kept import Kept

PIXELS = "pixels.npy"
PACKAGES = ("pillow", "torchvision", "open_clip_torch")  # of which the pixels depend on the versions

logger = logging.getLogger(__name__)


class EvaluationImages:
    """Images in a file that is mapped into memory, and a digest that stands for them."""

    def __init__(self, path: Path, digest: str) -> None:
        """Map the file."""
        self.digest = digest
        self._pixels = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._pixels)

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the images uint8 [B, 3, H, W], in order; in memory channels lie innermost."""
        starts = range(0, len(self), size)
        for part in ahead(lambda start: np.array(self._pixels[start : start + size]), starts):
            yield torch.from_numpy(part).permute(0, 3, 1, 2)


def open_images(
    folder: Path,
    reader: Reader,
    rows: pd.DataFrame,
    preprocess: Preprocess,
    *,
    threads: int,
    advance: Callable[[int], object] = lambda count: None,
) -> EvaluationImages:
    """Return the images of some rows of a packed source as `preprocess` cuts them; make them where nobody ever has.

    Args:
        folder: holds the images of this machine.
        reader: of the packed images.
        rows: of the index, in the order wanted; columns `row` and those of samples.IDENTITY.
        preprocess: of the model.
        threads: that decode and resize.
        advance: told how many more images have been made.

    Raises:
        DataError: a packed image is missing or damaged.
        DomixError: there is no room for the images, or the folder cannot be written.
    """
    how: dict[str, Any] = {"size": list(preprocess.size), "interpolation": preprocess.interpolation}
    how |= {"resize_mode": preprocess.resize_mode, "fill": preprocess.fill}
    about: dict[str, Any] = {
        "images": digest_of_images(rows),
        "count": len(rows),
        "code": code_digest(__name__),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    } | how

    def make(temporary: Path) -> None:
        logger.info("decoding %d images, once for all models that read alike: %s", len(rows), temporary)
        _make(temporary / PIXELS, reader, rows, preprocess, threads, advance)

    home = Kept(folder, by_content=False).open(about, make, what="set of images")
    return EvaluationImages(home / PIXELS, home.name)


def _make(
    path: Path,
    reader: Reader,
    rows: pd.DataFrame,
    preprocess: Preprocess,
    threads: int,
    advance: Callable[[int], object],
) -> None:
    pixels, numbers = new_array(path, (len(rows), *preprocess.size, 3), np.uint8), rows["row"].tolist()
    fill_images(pixels, lambda place: reader.read(numbers[place]), rows, preprocess, threads, advance)
    pixels.flush()
