"""Decoded images of any sizes, and where a training finds them.

Shapes: N images, B a batch, H x W the largest image of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from domix.data.loading.encoded import Encoded

CHUNK = 64  # images that a thread decodes before it asks for more

Effort = Literal["copy", "read", "decode"]  # of memory; of a file's pages; of image files


class ImageSet(Protocol):
    """Images 0 .. N - 1 of a training, wherever they lie."""

    sizes: Tensor  # int64 [N, 2] (height, width)
    effort: Effort  # what `cut` takes, by which batches are made ahead

    def __len__(self) -> int:
        """Return N."""
        ...

    def cut(self, rows: Tensor) -> Tensor | Encoded:
        """Return images int64 [B] padded with zeros to the largest of them, uint8 [B, 3, H, W], or still encoded."""
        ...


class Images:
    """Decoded images of any sizes in one uint8 buffer, in memory or in a memory-mapped file."""

    effort: Effort = "copy"

    def __init__(self, sizes: Tensor, buffer: Tensor | None = None) -> None:
        """Make room for images of `sizes` int64 [N, 2] (height, width), or find them in a row in `buffer`."""
        self.sizes = sizes
        ends = (sizes.prod(dim=1) * 3).cumsum(0)
        self._starts = torch.cat([ends.new_zeros(1), ends])
        self._buffer = torch.empty(int(self._starts[-1]), dtype=torch.uint8) if buffer is None else buffer
        uniform = len(sizes) > 0 and bool((sizes == sizes[0]).all())
        self._stack = self._buffer.view(len(sizes), 3, *sizes[0].tolist()) if uniform else None

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, row: int) -> Tensor:
        """Return the image of a row, uint8 [3, height, width], as a view."""
        height, width = self.sizes[row].tolist()
        return self._buffer[self._starts[row] : self._starts[row + 1]].view(3, height, width)

    @property
    def nbytes(self) -> int:
        """Bytes that the images take."""
        return len(self._buffer)

    def cut(self, rows: Tensor) -> Tensor:
        """Copy images int64 [B] out, padded with zeros to the largest of them: uint8 [B, 3, H, W]."""
        if self._stack is not None:
            return self._stack.index_select(0, rows)  # copies whole images; indexing goes byte by byte
        return padded([self[row] for row in rows.tolist()], self.sizes[rows])

    @classmethod
    def decode(cls, read: Callable[[int], bytes], names: Sequence[str], sizes: Tensor, *, threads: int) -> Images:
        """Decode images 0 .. N - 1, whose files `read` returns, with a pool of threads.

        Raises:
            DataError: a file cannot be decoded, or is not as large as `sizes` int64 [N, 2] says.
        """
        images = cls(sizes)
        decode_all(read, names, images.__getitem__, len(sizes), threads=threads)
        return images


class Selection:
    """Images chosen from several sources' images, in any order."""

    effort: Effort = "read"

    def __init__(self, sources: Sequence[Images], source: Tensor, row: Tensor) -> None:
        """Choose image `row` int64 [N] of source number `source` int64 [N]."""
        self._sources, self._source, self._row = sources, source, row
        self.sizes = torch.empty((len(row), 2), dtype=torch.int64)
        for number, images in enumerate(sources):
            mine = source == number
            self.sizes[mine] = images.sizes[row[mine]]

    def __len__(self) -> int:
        return len(self._row)

    def cut(self, rows: Tensor) -> Tensor:
        """Copy images int64 [B] out, padded with zeros to the largest of them: uint8 [B, 3, H, W]."""
        if len(self._sources) == 1:
            return self._sources[0].cut(self._row[rows])
        places = zip(self._source[rows].tolist(), self._row[rows].tolist(), strict=True)
        return padded([self._sources[number][row] for number, row in places], self.sizes[rows])


def padded(images: Sequence[Tensor], sizes: Tensor) -> Tensor:
    """Copy images of `sizes` int64 [B, 2] into a batch, zeros at the bottom and on the right: uint8 [B, 3, H, W]."""
    batch = room(sizes)
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch


def room(sizes: Tensor, device: torch.device | None = None) -> Tensor:
    """Return zeros for a batch of images of `sizes` int64 [B, 2]: uint8 [B, 3, H, W]."""
    height, width = sizes.amax(dim=0).tolist()
    return torch.zeros((len(sizes), 3, height, width), dtype=torch.uint8, device=device)


def decode_all(
    read: Callable[[int], bytes], names: Sequence[str], place: Callable[[int], Tensor], count: int, *, threads: int
) -> None:
    """Decode images 0 .. `count` - 1, whose files `read` returns, each into its `place` uint8 [3, height, width].

    Raises:
        DataError: a file cannot be decoded, or is not as large as its place.
    """

    def decode_chunk(first: int) -> None:
        for row in range(first, min(first + size, count)):
            target = place(row)
            target.copy_(torch.from_numpy(decode_sized(read(row), names[row], *target.shape[1:])).permute(2, 0, 1))

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
            f"the image {name} is {found[0]} x {found[1]} pixels, and the index says {wanted[0]} x {wanted[1]}:"
            " delete the shards and run dvc repro"
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
        raise DataError(
            f"the packed image {name} cannot be decoded ({error}): delete the shards and run dvc repro"
        ) from error
