"""Which rows of a bank of features a step of training reads, and which few of a class.

Shapes: N images, B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray

from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator


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
