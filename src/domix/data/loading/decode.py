"""Packed image files to pixels, alone or many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from domix.runtime.errors import DataError

CHUNK = 64  # images that a thread decodes before it asks for more


def room(sizes: Tensor, device: torch.device | None = None) -> Tensor:
    """Return zeros for a batch of images of `sizes` int64 [B, 2]: uint8 [B, 3, H, W]."""
    height, width = sizes.amax(dim=0).tolist()
    return torch.zeros((len(sizes), 3, height, width), dtype=torch.uint8, device=device)


def decode_all(
    read: Callable[[int], bytes],
    names: Sequence[str],
    sizes: Tensor,
    keep: Callable[[int, Tensor], object],
    *,
    threads: int,
) -> None:
    """Decode images of `sizes` int64 [N, 2] (height, width), whose files `read` returns, and let `keep` have each.

    `keep` is called with the number of the image and its pixels, uint8 [3, height, width], in any thread.

    Raises:
        DataError: a file cannot be decoded, or is not as large as `sizes` says.
    """
    count, shapes = len(sizes), sizes.tolist()

    def decode_chunk(first: int) -> None:
        for row in range(first, min(first + size, count)):
            keep(row, torch.from_numpy(decode_sized(read(row), names[row], *shapes[row])).permute(2, 0, 1))

    size = max(1, min(CHUNK, -(-count // max(1, threads))))
    if threads <= 1:
        for first in range(0, count, size):
            decode_chunk(first)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(decode_chunk, range(0, count, size)):
            pass


def decode_sized(data: bytes, name: str, height: int, width: int) -> np.ndarray:
    """Decode an image file to uint8 [height, width, 3].

    Raises:
        DataError: the bytes are no image, a damaged one, or one of another size.
    """
    pixels = decode_rgb(data, name)
    check_size(name, pixels.shape[:2], (height, width))
    return pixels


def check_size(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Check a decoded image's (height, width).

    Raises:
        DataError: it is not what the index says.
    """
    if tuple(found) != tuple(wanted):
        raise DataError(
            f"the image {name} is {found[0]} x {found[1]} pixels, and the index says {wanted[0]} x {wanted[1]}",
            argument="data",
        )


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """Decode an image file to uint8 [height, width, 3].

    Raises:
        DataError: the bytes are no image, or a damaged one.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"the packed image {name} cannot be decoded ({error})", argument="data") from error
