"""Inner products in 8-bit integers, with a bound on their error: a sieve for the search of neighbours.

Rows are turned by one orthogonal matrix, which leaves inner products as they are and spreads what single dimensions
hold over all, so that 8 bits a number do. With x = a + e, a the rounded row, and y = b + f:
|x.y - a.b| = |e.b + x.f| <= |e| |b| + |x| |f|, all of which is known.

Shapes: n queries, m rows of a bank, D dimensions.
"""

from __future__ import annotations

import math
import timeit
from functools import cache

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Ints
from domix.runtime.seeds import numpy_generator

MOST = 127  # of an 8-bit number
ROUNDING = 1e-5  # of products in single precision, as a share of the rows' lengths
FILL = 16  # rows are as wide as a multiple of it, which has factors
CHUNK = 512  # rows that stay in a core's cache
LEFT_OUT = -(2**31)  # stands for the product of a pair that is none


@cache
def _turns(width: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return random signs [D], and discrete Hartley transforms of two factors of D, orthogonal matrices."""
    factor = max(number for number in range(1, math.isqrt(width) + 1) if width % number == 0)
    signs = np.where(numpy_generator(0, "rotation", width).random(width) < 0.5, np.float32(-1), np.float32(1))
    angles = [2 * np.pi * np.outer(np.arange(size), np.arange(size)) / size for size in (factor, width // factor)]
    left, right = (((np.cos(each) + np.sin(each)) / np.sqrt(len(each))).astype(np.float32) for each in angles)
    return signs, left, right


def turned(rows: Array) -> NDArray[np.float32]:
    """Turn rows [n, D], filled with zeros to a multiple of FILL, by an orthogonal matrix that is always the same.

    It is a Kronecker product behind random signs: no entry is larger than two in the root of D, and its factors cost
    a tenth or less of a product with a whole matrix.
    """
    width = -(-rows.shape[1] // FILL) * FILL
    signs, left, right = _turns(width)
    found = np.zeros((len(rows), width), np.float32)
    for start in range(0, len(rows), CHUNK):
        some = found[start : start + CHUNK]
        np.multiply(rows[start : start + CHUNK], signs[: rows.shape[1]], out=some[:, : rows.shape[1]])
        some[:] = (left @ (some.reshape(-1, len(right)) @ right).reshape(len(some), len(left), -1)).reshape(some.shape)
    return found


class Quantised:
    """Rows in 8 bits, with a scale and what is needed for the bound."""

    def __init__(self, rows: Array, *, each_row: bool) -> None:
        """Round rows [n, D]; each has a scale of its own, or all have one."""
        import torch  # has products of 8-bit integers

        largest = np.maximum(rows.max(axis=1), -rows.min(axis=1)) if each_row else max(rows.max(), -rows.min())
        largest = np.maximum(largest, np.float32(1e-30)).reshape(-1, 1)
        self.scale: Array = largest / np.float32(MOST)
        numbers = np.empty(rows.shape, np.int8)
        lengths = np.empty((3, len(rows)))
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            scale = self.scale[part] if each_row else self.scale
            rounded = np.rint(rows[part] / scale)
            numbers[part] = rounded
            kept = rounded * scale
            lengths[:, part] = [_lengths(each) for each in (rows[part], kept, rows[part] - kept)]
        self.numbers = torch.from_numpy(numbers)
        self.lengths, self.kept_lengths, self.errors = lengths

    def products(
        self, bank: Quantised, *, leave_out: tuple[Ints, Ints], room: NDArray[np.int32] | None = None
    ) -> NDArray[np.int32]:
        """Return the products of the 8-bit numbers [n, m].

        Args:
            bank: rows of one scale.
            leave_out: pairs that are none: theirs is LEFT_OUT.
            room: at least n x m numbers that are written over: without, half the time goes into new memory.
        """
        import torch

        shape = len(self.numbers), len(bank.numbers)
        found = np.empty(shape, np.int32) if room is None else room[: shape[0] * shape[1]].reshape(shape)
        torch._int_mm(self.numbers, bank.numbers.T, out=torch.from_numpy(found))
        found[leave_out] = LEFT_OUT
        return found

    def pairs_above(self, least: Array, bank: Quantised, products: NDArray[np.int32]) -> tuple[Ints, Ints]:
        """Return the pairs whose true product may be `least` [n] or above: rows and columns, in order."""
        slack = self.errors * bank.kept_lengths.max() + self.lengths * bank.errors.max()
        slack += ROUNDING * self.lengths * bank.lengths.max()
        limit = np.ceil((least - slack) / (self.scale[:, 0].astype(np.float64) * float(bank.scale[0, 0])))
        limit = np.clip(limit, LEFT_OUT + 1, 2**31 - 1).astype(np.int32)
        rows, columns = np.divmod(np.flatnonzero(products >= limit[:, None]), products.shape[1])
        return rows, columns


def highest(products: NDArray[np.int32], k: int) -> Ints:
    """Return the columns of each row's k highest products [n, k], in any order."""
    import torch  # is several times as fast

    if k == 1:
        return products.argmax(axis=1, keepdims=True)
    return torch.from_numpy(products).topk(k, dim=1, sorted=False).indices.numpy()


def _lengths(rows: Array) -> Floats:
    """Return the lengths of rows [n, D], as exactly as ROUNDING asks."""
    return np.sqrt(np.einsum("nd,nd->n", rows, rows)).astype(np.float64)


@cache
def quantised_is_faster() -> bool:
    """Return whether this processor multiplies 8-bit integers faster than single precision; tried out once."""
    import torch

    floats, small = torch.ones(1024, 1024), torch.ones(1024, 1024, dtype=torch.int8)
    trials = (lambda: floats @ floats.T), (lambda: torch._int_mm(small, small.T))
    best = [min(timeit.repeat(trial, number=1, repeat=6)) for trial in trials]
    return best[1] < 0.75 * best[0]
