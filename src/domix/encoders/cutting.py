"""Packed images decoded and cut as a model reads them, many at a time.

Shapes: N images, H x W what the model reads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from domix.data.loading.decode import decode_sized
from domix.encoders.preprocess import Preprocess

CHUNK = 64  # images that a thread makes before it asks for more


def cut_image(data: bytes, name: str, height: int, width: int, preprocess: Preprocess) -> np.ndarray:
    """Decode a packed image file, `height` x `width` as the index says, and resize and crop it: uint8 [H, W, 3].

    Raises:
        DataError: the bytes are no image, a damaged one, or one of another size.
    """
    return preprocess.cut(Image.fromarray(decode_sized(data, name, height, width)))


def cut_images(read: Callable[[int], bytes], rows: pd.DataFrame, preprocess: Preprocess, *, threads: int) -> Tensor:
    """Return the images of some rows, at least one, as a model reads them: uint8 [N, 3, H, W].

    Args:
        read: returns the packed image of the row at a place among `rows`.
        rows: of an index; columns `key`, `height`, `width`.
        preprocess: of the model.
        threads: that decode and resize.

    Raises:
        DataError: a packed image is missing or damaged.
    """
    pixels = np.empty((len(rows), *preprocess.size, 3), np.uint8)
    fill_images(pixels, read, rows, preprocess, threads, lambda count: None)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def fill_images(
    pixels: np.ndarray,
    read: Callable[[int], bytes],
    rows: pd.DataFrame,
    preprocess: Preprocess,
    threads: int,
    advance: Callable[[int], object],
) -> None:
    """Write the images of some rows, as `cut_images` returns them, into `pixels` uint8 [N, H, W, 3].

    Raises:
        DataError: a packed image is missing or damaged.
    """
    columns = [rows[name].tolist() for name in ("key", "height", "width")]

    def make(first: int) -> int:
        last = min(first + CHUNK, len(pixels))
        for place in range(first, last):
            pixels[place] = cut_image(read(place), *(column[place] for column in columns), preprocess)
        return last - first

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for count in pool.map(make, range(0, len(pixels), CHUNK)):
            advance(count)
