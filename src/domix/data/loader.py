"""Training batches, cut from pictures that were decoded once and lie in memory.

A batch is addressed by its step. Sample number `step * batch + i` of a training is entry `number % count` of the
order of epoch `number // count`, which depends on the seed and the epoch alone; a batch may straddle two epochs, and no
sample is dropped. Augmentation is drawn from a generator made from (seed, step). So any step's batch can be made
alone, exactly as in a training that came there from the beginning: resuming is starting at another step. Several
processes draw the same whole batch, and each keeps its slice.

Shapes: N pictures in memory, B a process's share of a batch, H x W the largest picture of that share, L caption tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from domix.data import augment
from domix.runtime.errors import DataError
from domix.runtime.seeds import torch_generator

CHUNK = 64  # pictures that a thread decodes before it asks for more


class Batch(NamedTuple):
    """One process's share of a step; tensors only, so that it moves to a device as a whole."""

    step: int
    pictures: Tensor  # uint8 [B, 3, H, W], padded at the bottom and on the right
    tokens: Tensor  # int64 [B, L]
    boxes: Tensor  # int64 [4, B]: top, left, height, width of the crops
    mirror: Tensor  # bool [B]


class Pictures:
    """Decoded pictures of any sizes in one uint8 buffer."""

    def __init__(self, sizes: Tensor) -> None:
        """Make room for pictures of `sizes` int64 [N, 2] (height, width)."""
        self.sizes = sizes
        ends = (sizes.prod(dim=1) * 3).cumsum(0)
        self._buffer = torch.empty(int(ends[-1]) if len(ends) else 0, dtype=torch.uint8)
        self._starts = torch.cat([ends.new_zeros(1), ends])
        uniform = len(sizes) > 0 and bool((sizes == sizes[0]).all())
        self._stack = self._buffer.view(len(sizes), 3, *sizes[0].tolist()) if uniform else None

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, row: int) -> Tensor:
        """Return the picture of a row, uint8 [3, height, width], as a view."""
        height, width = self.sizes[row].tolist()
        return self._buffer[self._starts[row] : self._starts[row + 1]].view(3, height, width)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the pictures take."""
        return len(self._buffer)

    def cut(self, rows: Tensor) -> Tensor:
        """Copy pictures int64 [B] out, padded with zeros to the largest of them: uint8 [B, 3, H, W]."""
        if self._stack is not None:
            return self._stack.index_select(0, rows)  # copies whole pictures; indexing goes byte by byte
        height, width = self.sizes[rows].amax(dim=0).tolist()
        batch = torch.zeros((len(rows), 3, height, width), dtype=torch.uint8)
        for place, row in zip(batch, rows.tolist(), strict=True):
            picture = self[row]
            place[:, : picture.shape[1], : picture.shape[2]] = picture
        return batch

    @classmethod
    def decode(cls, read: Callable[[int], bytes], names: Sequence[str], sizes: Tensor, *, threads: int) -> Pictures:
        """Decode pictures 0 .. N - 1, whose files `read` returns, with a pool of threads.

        Raises:
            DataError: a file cannot be decoded, or is not as large as `sizes` int64 [N, 2] says.
        """
        pictures = cls(sizes)

        def decode_one(row: int) -> None:
            pixels = decode_rgb(read(row), names[row])
            if pixels.shape[:2] != tuple(sizes[row].tolist()):
                raise DataError(
                    f"the picture {names[row]} is {pixels.shape[0]} x {pixels.shape[1]} pixels, and the index says"
                    f" {sizes[row, 0]} x {sizes[row, 1]}: delete the shards and run dvc repro"
                )
            pictures[row].copy_(torch.from_numpy(pixels).permute(2, 0, 1))

        def decode_chunk(first: int) -> None:
            for row in range(first, min(first + CHUNK, len(sizes))):
                decode_one(row)

        with ThreadPoolExecutor(max(1, threads)) as pool:
            for _ in pool.map(decode_chunk, range(0, len(sizes), CHUNK)):
                pass
        return pictures


def decode_rgb(data: bytes, name: str) -> np.ndarray:
    """Decode a picture file to uint8 [height, width, 3].

    Raises:
        DataError: the bytes are no picture, or a damaged one.
    """
    try:
        with Image.open(BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"the packed picture {name} cannot be decoded ({error}): delete the shards and run dvc repro"
        ) from error


def sample_order(count: int, *, seed: int, epoch: int, weights: Tensor | None = None) -> Tensor:
    """Return the order of an epoch's samples, int64 [count], which depends on the seed and the epoch.

    It is a permutation; or, with `weights` float64 [count] > 0, `count` draws in which a sample of c times the mean
    weight stands floor(c) or ceil(c) times, c times on average (systematic resampling: one random number an epoch).
    """
    generator = torch_generator(seed, "order", epoch)
    order = torch.randperm(count, generator=generator)
    if weights is None:
        return order
    ends = weights[order].cumsum(0)
    start = torch.rand((), generator=generator, dtype=torch.float64)
    ticks = (torch.arange(count, dtype=torch.float64) + start) * (ends[-1] / count)
    drawn = order[torch.searchsorted(ends, ticks, right=True).clamp(max=count - 1)]
    return drawn[torch.randperm(count, generator=generator)]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random resized crops and mirroring."""

    scale: tuple[float, float]
    ratio: tuple[float, float]
    mirror: float


class Batches:
    """The batches of steps `start` .. `total` - 1, in order; see the module's description."""

    def __init__(
        self,
        pictures: Pictures,
        tokens: Tensor,
        augmentation: Augmentation,
        *,
        batch: int,
        seed: int,
        total: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        weights: Tensor | None = None,
        pin: bool = False,
    ) -> None:
        """Take N pictures and their captions' tokens [N, L]; `batch` samples a step over all `world_size` processes.

        `weights` float64 [N] says how often each is drawn, in proportion; without, each is drawn once an epoch. `pin`
        puts batches in page-locked memory, from which a GPU fetches them while it computes.
        """
        assert 0 < batch <= len(pictures)
        self.pictures, self.tokens, self.augmentation = pictures, tokens, augmentation
        self.batch, self.seed, self.total, self.start = batch, seed, total, start
        share = batch // world_size
        self._share = slice(rank * share, (rank + 1) * share)
        self._pin, self._weights = pin, weights
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[Batch]:
        return (self.make(step) for step in range(self.start, self.total))

    def rows(self, step: int) -> Tensor:
        """Return which samples make up a step's whole batch: int64 [batch]."""
        count, first = len(self.pictures), step * self.batch
        head, start = divmod(first, count)
        part = self._order(head)[start : start + self.batch]
        if len(part) < self.batch:
            part = torch.cat([part, self._order(head + 1)[: self.batch - len(part)]])
        return part

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {kept: order for kept, order in self._orders.items() if kept == epoch - 1}
            self._orders[epoch] = sample_order(len(self.pictures), seed=self.seed, epoch=epoch, weights=self._weights)
        return self._orders[epoch]

    def make(self, step: int) -> Batch:
        """Make this process's share of one step."""
        rows = self.rows(step)
        generator = torch_generator(self.seed, "augmentation", step)
        chosen = self.augmentation
        sizes = self.pictures.sizes[rows]
        boxes = augment.random_boxes(sizes, scale=chosen.scale, ratio=chosen.ratio, generator=generator)
        mirror = augment.random_mirror(self.batch, probability=chosen.mirror, generator=generator)
        packed = torch.stack([boxes.top, boxes.left, boxes.height, boxes.width])
        rows = rows[self._share]
        parts = (
            self.pictures.cut(rows),
            self.tokens[rows].long(),
            packed[:, self._share].contiguous(),
            mirror[self._share].contiguous(),
        )
        return Batch(step, *(part.pin_memory() for part in parts)) if self._pin else Batch(step, *parts)


def augmented(batch: Batch, size: int) -> Tensor:
    """Crop, resize, mirror and normalise a batch's pictures on their device: float32 [B, 3, size, size]."""
    boxes = augment.Boxes(*batch.boxes)
    return augment.normalise(augment.crop_resize(batch.pictures, boxes, size, mirror=batch.mirror))
