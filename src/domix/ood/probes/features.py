"""Features of many images, wherever they lie: in memory, in a mapped file, in a store; read by rows.

Shapes: N images, d features, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from domix.activations.store import ActivationStore
from domix.runtime.arrays import BLOCK
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

DEAD = 1e-7  # a dimension that varies by no more than this share of its mean does not vary: it is float32's rounding


class Features(Protocol):
    """What is read by rows."""

    shape: tuple[int, int]  # N, d

    def read(self, rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        """Write the features of some rows [B] into `out` float32 [B, d]."""
        ...


class ArrayFeatures:
    """Features in an array [N, d] of any float type, which may be mapped from a file."""

    def __init__(self, array: NDArray) -> None:
        """Take the array.

        Raises:
            DataError: it is no matrix.
        """
        if array.ndim != 2 or not len(array):
            raise DataError(f"features must be an array of N images x d, not one of shape {array.shape}")
        self.array, self.shape = array, array.shape

    def read(self, rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        """Write the features of some rows [B] into `out` float32 [B, d]."""
        if self.array.dtype == np.float32:
            np.take(self.array, rows, axis=0, out=out, mode="clip")  # any other mode goes through a copy
        else:
            out[:] = self.array[rows]


class StoreFeatures:
    """Features in a store, of one site; its shards are mapped, and none is read whole."""

    def __init__(self, store: ActivationStore, site: str) -> None:
        """Map the shards.

        Raises:
            DataError: the store lacks the site, or a shard is damaged.
        """
        self.shards, self.shard = list(store.rows(site)), store.shard
        self.shape = (store.count, store.widths[site])

    def read(self, rows: NDArray[np.int64], out: NDArray[np.float32]) -> None:
        """Write the features of some rows [B] into `out` float32 [B, d]."""
        order = np.argsort(rows, kind="stable")
        shards = rows[order] // self.shard
        starts = np.flatnonzero(np.r_[True, shards[1:] != shards[:-1]])
        for places in np.split(order, starts[1:]):
            first = int(rows[places[0]]) // self.shard
            out[places] = self.shards[first][rows[places] - first * self.shard]


def as_features(features: Features | NDArray) -> Features:
    """Return an array [N, d] as features to read by rows; what is so already as it is."""
    return ArrayFeatures(features) if isinstance(features, np.ndarray) else features


def feature_blocks(features: Features | NDArray) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield all rows in order, a block at a time: the number of its first row, and float32 [B, d]."""
    features = as_features(features)
    for first in range(0, features.shape[0], BLOCK):
        rows = np.arange(first, min(first + BLOCK, features.shape[0]))
        block = np.empty((len(rows), features.shape[1]), np.float32)
        features.read(rows, block)
        yield first, block


def standardisation(features: Features | NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and unbiased deviation [d] of features, summed in float64; deviation 1 where one does not vary.

    Blocks are joined by Chan's update, so that nothing is lost to cancellation. A dimension that does not vary is then
    0 once it is standardised, for training images at least.

    Raises:
        DataError: a feature is not finite, or there is only one image.
    """
    total, mean, squares = 0, np.zeros(1), np.zeros(1)
    for first, block in feature_blocks(features):
        require_finite(block, first)
        values = block.astype(np.float64)
        n, own = len(values), values.mean(axis=0)
        gap, both = own - mean, total + n
        squares = squares + ((values - own) ** 2).sum(axis=0) + gap**2 * (total * n / both)
        total, mean = both, mean + gap * (n / both)
    if total < 2:
        raise DataError("one image has no deviation: standardise features by more of them")
    std = np.sqrt(squares / (total - 1))
    std[std <= DEAD * np.abs(mean)] = 1.0
    return mean.astype(np.float32), std.astype(np.float32)


def require_finite(block: NDArray[np.float32], first: int = 0) -> None:
    """Check a block of features [B, d], the first of which is row `first`.

    Raises:
        DataError: one is not finite; the sentence names its row.
    """
    with np.errstate(all="ignore"):
        fine = bool(
            np.isfinite(block.sum())
        )  # whatever is not finite spoils a sum, which is quicker than to look at each
    if not fine and not np.isfinite(block).all():
        row = first + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
        raise DataError(f"the features of image {row} are not finite: embed it again, or leave it out")


def loader_order(n: int, batch: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each step for ever, in the order in which PyTorch's DataLoader shuffles `n` rows.

    `torch.manual_seed(s)` and `DataLoader(..., shuffle=True)` draw the same from the global generator as this does from
    `torch.Generator().manual_seed(s)`: each epoch a seed for worker processes, then one for the permutation. The last
    batch of an epoch may be smaller.
    """
    while True:
        torch.empty((), dtype=torch.int64).random_(generator=generator)  # the workers' seed
        seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
        rows = torch.randperm(n, generator=torch.Generator().manual_seed(seed)).numpy()
        yield from (rows[first : first + batch] for first in range(0, n, batch))


def shard_order(n: int, batch: int, *, shard: int, mixed: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each step for ever, `mixed` shards of `shard` rows shuffled together at a time.

    For files larger than memory: each shard is read in one piece once an epoch. Every epoch has each row once, in as
    many steps as `loader_order` takes.
    """
    for epoch in count():
        generator = numpy_generator(seed, "probe rows", epoch)
        order, left = generator.permutation(-(-n // shard)), np.empty(0, np.int64)
        for first in range(0, len(order), mixed):
            parts = [np.arange(s * shard, min((s + 1) * shard, n)) for s in order[first : first + mixed]]
            pool = np.concatenate([left, generator.permutation(np.concatenate(parts))])
            whole = len(pool) // batch * batch
            yield from (pool[start : start + batch] for start in range(0, whole, batch))
            left = pool[whole:]
        if len(left):
            yield left


def few_shot_rows(
    labels: NDArray[np.int64], shots: int, *, classes: int | None = None, seed: int = 42, fewer: bool = False
) -> NDArray[np.int64]:
    """Draw `shots` images of each class without replacement: their rows, rising.

    Args:
        labels: int64 [N], true or pseudo.
        shots: images a class.
        classes: how many there are; None: up to the greatest label.
        seed: of the draw.
        fewer: take all images of a class that has not as many; PLP's code refuses such, as does this by default.

    Raises:
        DataError: a class has fewer images than asked.
    """
    counts = np.bincount(labels, minlength=classes or 0)
    short = np.flatnonzero(counts < shots)
    if len(short) and not fewer:
        more = f", as {len(short) - 1} others" if len(short) > 1 else ""
        raise DataError(
            f"class {short[0]} has {counts[short[0]]} images, fewer than the {shots} that are asked for{more}: ask for"
            " fewer shots, or for what there is"
        )
    generator = numpy_generator(seed, "few shots", shots)
    drawn = [
        generator.permutation(np.flatnonzero(labels == label))[:shots] for label in np.flatnonzero(counts).tolist()
    ]
    return np.sort(np.concatenate(drawn))
