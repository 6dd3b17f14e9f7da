"""Training batches, addressed by their step.

Sample number `step * batch + i` of a training is entry `number % length` of the order of epoch `number // length`,
which depends on the seed and the epoch alone. A batch may straddle two epochs, and no sample is dropped; or epochs end
with their last whole batch (`drop_last`). Augmentation is drawn from a generator made from (seed, step). So any step's
batch can be made alone, exactly as in a training that came there from the beginning: resuming is starting at another
step, and a batch is the same wherever its images come from. Several processes draw the same whole batch, and each
keeps its slice.

Shapes: N images, B a process's share of a batch, H x W the largest image or crop of that share, L caption tokens.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from domix.data.loading import augment
from domix.data.loading.encoded import Encoded
from domix.data.loading.images import ImageSet
from domix.data.loading.windows import windows_of
from domix.runtime.seeds import torch_generator


class Batch(NamedTuple):
    """One process's share of a step; of tensors, so that it moves to a device as a whole."""

    step: int
    images: Tensor | Encoded  # uint8 [B, 3, H, W], padded at the bottom and on the right
    targets: Tensor  # int64: the captions' tokens [B, L], or labels [B]
    boxes: Tensor  # int64 [4, B]: top, left, height, width of the crops in `images`
    hflip: Tensor  # bool [B]

    def parts(self, count: int) -> list[Batch]:
        """Split the share into `count` equal parts, in order."""
        if count == 1:
            return [self]
        assert isinstance(self.images, Tensor)  # `augmented` has decoded them
        images, targets, hflip = (tensor.chunk(count) for tensor in (self.images, self.targets, self.hflip))
        boxes = self.boxes.chunk(count, dim=1)
        return [Batch(self.step, *fields) for fields in zip(images, targets, boxes, hflip, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Order:
    """In which order samples 0 .. count - 1 are seen; every epoch has an order of its own."""

    count: int
    seed: int
    weights: Tensor | None = None  # float64 [count] > 0: how often each is drawn, in proportion; None: once an epoch
    shards: Tensor | None = None  # int64 [count]: the shard of each; needed with `window`
    window: int | None = None  # shards whose samples are shuffled together; None: all

    def epoch(self, epoch: int) -> Tensor:
        """Return the order of an epoch's samples, int64 [count], which depends on the seed and the epoch.

        It is a permutation; or, with weights, `count` draws in which a sample of c times the mean weight stands
        floor(c) or ceil(c) times, c times on average (systematic resampling: one random number an epoch). With a
        window, shards come in a random order, and so many consecutive ones form a window: its samples come in a random
        order before those of the next. So whoever reads an epoch from its beginning needs few shards at a time.
        """
        generator = torch_generator(self.seed, "order", epoch)
        order = torch.randperm(self.count, generator=generator)
        if self.weights is not None:
            order = self._drawn(order, self.weights, generator)
        if self.window is None:
            return order
        assert self.shards is not None
        place = torch.randperm(int(self.shards.max()) + 1, generator=generator)  # of each shard among all
        return order[(place[self.shards[order]] // self.window).argsort(stable=True)]

    def _drawn(self, order: Tensor, weights: Tensor, generator: torch.Generator) -> Tensor:
        ends = weights[order].cumsum(0)
        start = torch.rand((), generator=generator, dtype=torch.float64)
        ticks = (torch.arange(self.count, dtype=torch.float64) + start) * (ends[-1] / self.count)
        drawn = order[torch.searchsorted(ends, ticks, right=True).clamp(max=self.count - 1)]
        return drawn[torch.randperm(self.count, generator=generator)]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random resized crops and flipping."""

    side: int  # pixels of what the model reads
    scale: tuple[float, float]
    ratio: tuple[float, float]
    hflip: float


class Batches:
    """The batches of steps `start` .. `total` - 1, in order; see the module's description."""

    def __init__(
        self,
        images: ImageSet,
        targets: Tensor,
        augmentation: Augmentation,
        order: Order,
        *,
        batch: int,
        total: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        """Take N images and their targets [N] or [N, L]; `batch` samples a step over all `world_size` processes."""
        assert 0 < batch <= len(images) == order.count
        self.images, self.targets, self.augmentation, self.order = images, targets, augmentation, order
        self.batch, self.total, self.start = batch, total, start
        share = batch // world_size
        self._share = slice(rank * share, (rank + 1) * share)
        self.length = order.count - order.count % batch if drop_last else order.count  # samples an epoch
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Generator[Batch]:
        return (self.make(step) for step in range(self.start, self.total))

    def rows(self, step: int) -> Tensor:
        """Return which samples make up a step's whole batch: int64 [batch]."""
        head, start = divmod(step * self.batch, self.length)
        part = self._order(head)[start : min(start + self.batch, self.length)]
        if len(part) < self.batch:
            part = torch.cat([part, self._order(head + 1)[: self.batch - len(part)]])
        return part

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            self._orders = {kept: order for kept, order in self._orders.items() if kept == epoch - 1}
            self._orders[epoch] = self.order.epoch(epoch)
        return self._orders[epoch]

    def make(self, step: int) -> Batch:
        """Make this process's share of one step."""
        rows = self.rows(step)
        generator = torch_generator(self.order.seed, "augmentation", step)
        chosen = self.augmentation
        sizes = self.images.sizes[rows]
        boxes = augment.random_boxes(sizes, scale=chosen.scale, ratio=chosen.ratio, generator=generator)
        hflip = augment.random_hflip(self.batch, probability=chosen.hflip, generator=generator)
        packed = torch.stack([boxes.top, boxes.left, boxes.height, boxes.width])
        rows, packed = rows[self._share], packed[:, self._share].contiguous()
        windows = windows_of(sizes[self._share], packed, chosen.side)
        return Batch(
            step,
            self.images.cut(rows, windows),
            self.targets[rows].long(),
            packed if windows is None else windows.inner,
            hflip[self._share].contiguous(),
        )


def augmented(batch: Batch, size: int) -> Tensor:
    """Crop, resize, hflip and normalise a batch's images on their device: float32 [B, 3, size, size]."""
    boxes = augment.Boxes(*batch.boxes)
    images = batch.images
    if isinstance(images, Encoded):
        images = images.decode(batch.boxes.device)
    return augment.normalise(augment.crop_resize(images, boxes, size, hflip=batch.hflip))
