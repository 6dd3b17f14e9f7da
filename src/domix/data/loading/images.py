"""Decoded images of any sizes, and where a training finds them.

Shapes: N images, B a batch, H x W the largest image of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from domix.data.loading.decode import decode_all, room
from domix.data.loading.windows import Windows, place_in

if TYPE_CHECKING:
    from domix.data.loading.encoded import Encoded

Effort = Literal["copy", "read", "decode"]  # of memory; of a file's pages; of image files


class ImageSet(Protocol):
    """Images 0 .. N - 1 of a training, wherever they lie."""

    sizes: Tensor  # int64 [N, 2] (height, width)
    effort: Effort  # what `cut` takes, by which batches are made ahead

    def __len__(self) -> int:
        """Return N."""
        ...

    def cut(self, rows: Tensor, windows: Windows | None = None) -> Tensor | Encoded:
        """Return images int64 [B], or their `windows`, padded with zeros to the largest of them: uint8 [B, 3, H, W].

        They may still be encoded.
        """
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

    def cut(self, rows: Tensor, windows: Windows | None = None) -> Tensor:
        """Copy images int64 [B] or windows of them out, padded with zeros to the largest: uint8 [B, 3, H, W]."""
        if self._stack is not None and windows is None:
            return self._stack.index_select(0, rows)  # copies whole images; indexing goes byte by byte
        return padded([self[row] for row in rows.tolist()], self.sizes[rows], windows)

    @classmethod
    def decode(cls, read: Callable[[int], bytes], names: Sequence[str], sizes: Tensor, *, threads: int) -> Images:
        """Decode images 0 .. N - 1, whose files `read` returns, with a pool of threads.

        Raises:
            DataError: a file cannot be decoded, or is not as large as `sizes` int64 [N, 2] says.
        """
        images = cls(sizes)
        decode_all(read, names, sizes, lambda row, image: images[row].copy_(image), threads=threads)
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

    def cut(self, rows: Tensor, windows: Windows | None = None) -> Tensor:
        """Copy images int64 [B] or windows of them out, padded with zeros to the largest: uint8 [B, 3, H, W]."""
        if len(self._sources) == 1:
            return self._sources[0].cut(self._row[rows], windows)
        places = zip(self._source[rows].tolist(), self._row[rows].tolist(), strict=True)
        return padded([self._sources[number][row] for number, row in places], self.sizes[rows], windows)


def padded(images: Sequence[Tensor], sizes: Tensor, windows: Windows | None) -> Tensor:
    """Copy images of `sizes` int64 [B, 2], or windows of them, into a batch: uint8 [B, 3, H, W].

    Zeros stand at the bottom and on the right.
    """
    batch = room(sizes if windows is None else windows.shapes)
    for number, image in enumerate(images):
        place_in(batch, number, image, windows)
    return batch
