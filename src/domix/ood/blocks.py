"""Arrays of numbers that are read block by block, and checked on the way.

A bank of features may be one array [M, D], in memory or mapped, or a sequence of arrays [m, D] that follow one another,
as the shards of a store are: `[store.array(site, shard) for shard in range(store.shards)]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domix.runtime.errors import DataError

Array = NDArray[Any]
Rows = Array | Sequence[Array]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK = 4096  # rows at a time


def check_scores(scores: Array, what: str) -> Floats:
    """Return the scores of a set of images in double precision [N].

    Raises:
        DataError: there are none, they are no list of numbers, or some are not finite; the sentence begins with `what`.
    """
    values = np.asarray(scores)
    if values.ndim != 1:
        raise DataError(f"{what} are of shape {values.shape}: give one score an image")
    if len(values) == 0:
        raise DataError(f"{what} are empty: give a set with images")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{what} are not finite ({values[place]} of image {place}): mend what they are made of")
    return values


def shape_of(rows: Rows, what: str) -> tuple[int, int]:
    """Return how many rows there are and how wide they are.

    Raises:
        DataError: there are none, or they are not all vectors of one width.
    """
    parts = [rows] if isinstance(rows, np.ndarray) else list(rows)
    if any(np.ndim(part) != 2 for part in parts) or len({part.shape[1] for part in parts}) > 1:
        shapes = ", ".join(str(np.shape(part)) for part in parts[:3])
        raise DataError(f"{what} are of shape {shapes}: give arrays [images, dimensions] of one width")
    count = sum(len(part) for part in parts)
    if count == 0:
        raise DataError(f"{what} are empty: give a set with images")
    return count, int(parts[0].shape[1])


def blocks(rows: Rows, what: str, *, size: int = BLOCK, dtype: Any = np.float64) -> Iterator[tuple[int, Array]]:
    """Yield the rows in blocks of `size` or fewer, each with the number of its first row.

    Raises:
        DataError: there are none, they are of different widths, or a number is not finite.
    """
    shape_of(rows, what)
    first = 0
    for part in [rows] if isinstance(rows, np.ndarray) else rows:
        for start in range(0, len(part), size):
            block = np.asarray(part[start : start + size], dtype=dtype)
            if not np.isfinite(block).all():
                row = int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
                raise DataError(f"{what} are not finite (row {first + row}): mend or leave out that image")
            yield first, block
            first += len(block)


def take(rows: Rows, places: Ints) -> Array:
    """Return some rows [n, D], in any order."""
    if isinstance(rows, np.ndarray):
        return rows[places]
    ends = np.cumsum([len(part) for part in rows])
    which = np.searchsorted(ends, places, side="right")
    found = np.empty((len(places), rows[0].shape[1]), rows[0].dtype)
    for number in np.unique(which):
        here = which == number
        found[here] = rows[number][places[here] - (ends[number] - len(rows[number]))]
    return found


def unit(rows: Array) -> Array:
    """Return rows [n, D] at length 1; a row of zeros stays one."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def check_labels(labels: Array, count: int, what: str) -> Ints:
    """Return labels [count] as int64.

    Raises:
        DataError: they are not as many, or no whole numbers from 0.
    """
    values = np.asarray(labels)
    if values.shape != (count,):
        raise DataError(f"{what} are of shape {values.shape}, but there are {count} images: give one label an image")
    if values.dtype.kind not in "iu" or (count and values.min() < 0):
        raise DataError(f"{what} are no whole numbers from 0: number the classes so")
    return values.astype(np.int64)


def add_by_class(sums: Floats, rows: Array, classes: Ints) -> None:
    """Add rows [n, D] to the sums of their classes [C, D]."""
    if len(rows) == 0:
        return
    order = np.argsort(classes, kind="stable")
    present, first = np.unique(classes[order], return_index=True)
    sums[present] += np.add.reduceat(rows[order], first, axis=0)
