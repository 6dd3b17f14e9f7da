"""Inner products in 8-bit integers, with a bound on their error: a sieve for the search of neighbours.

Rows are turned by one random orthogonal matrix, which leaves inner products as they are and spreads what single
dimensions hold over all, so that 8 bits a number do. With x = a + e, a the rounded row, and y = b + f:
|x.y - a.b| = |e.b + x.f| <= |e| |b| + |x| |f|, all of which is known.

Shapes: n queries, m rows of a bank, D dimensions.
"""

from __future__ import annotations

import timeit
from functools import cache

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Ints
from domix.runtime.seeds import numpy_generator

MOST = 127  # of an 8-bit number
ROUNDING = 1e-5  # of products in single precision, as a share of the rows' lengths
LEFT_OUT = -(2**31)  # stands for the product of a pair that is none


@cache
def rotation(width: int) -> NDArray[np.float32]:
    """Return a random orthogonal matrix [D, D], always the same."""
    drawn = numpy_generator(0, "rotation", width).standard_normal((width, width))
    return np.linalg.qr(drawn)[0].astype(np.float32)


class Quantised:
    """Rows in 8 bits, with a scale and what is needed for the bound."""

    def __init__(self, rows: Array, *, each_row: bool) -> None:
        """Round rows [n, D]; each has a scale of its own, or all have one."""
        import torch  # has products of 8-bit integers

        largest = abs(rows).max(axis=1, keepdims=True) if each_row else abs(rows).max(keepdims=True)
        self.scale: Array = np.maximum(largest, np.float32(1e-30)) / np.float32(MOST)
        rounded = np.rint(rows / self.scale)
        self.numbers = torch.from_numpy(rounded.astype(np.int8))
        kept = rounded * self.scale
        self.lengths, self.kept_lengths, self.errors = (_lengths(part) for part in (rows, kept, rows - kept))

    def pairs_above(
        self,
        bank: Quantised,
        least: Array,
        k: int,
        *,
        leave_out: tuple[Ints, Ints],
        room: NDArray[np.int32] | None = None,
    ) -> tuple[Ints, Ints]:
        """Return the pairs that may be among the k best of a query and above `least` [n]: rows and columns, in order.

        Args:
            bank: rows of one scale.
            least: of each query.
            k: how many are wanted; beyond 1 they are looked for only where nothing is known yet (`least` is -inf).
            leave_out: pairs that are none.
            room: at least n x m numbers of 32 bits that are written over: without, half the time goes into new memory.
        """
        import torch

        shape = len(self.numbers), len(bank.numbers)
        products = np.empty(shape, np.int32) if room is None else room[: shape[0] * shape[1]].reshape(shape)
        torch._int_mm(self.numbers, bank.numbers.T, out=torch.from_numpy(products))
        products[leave_out] = LEFT_OUT
        slack = self.errors * bank.kept_lengths.max() + self.lengths * bank.errors.max()
        slack += ROUNDING * self.lengths * bank.lengths.max()
        unit = self.scale[:, 0].astype(np.float64) * float(bank.scale[0, 0])
        limit = np.ceil((least - slack) / unit)
        if k == 1 or np.isneginf(least).any():
            # What is more than twice the slack below the k-th best product here is none of the k best.
            best = products.max(axis=1) if k == 1 else torch.from_numpy(products).topk(k, dim=1).values[:, -1].numpy()
            limit = np.maximum(limit, np.ceil(best - 2 * slack / unit))
        limit = np.clip(limit, LEFT_OUT + 1, 2**31 - 1).astype(np.int32)
        rows, columns = np.divmod(np.flatnonzero(products >= limit[:, None]), products.shape[1])
        return rows, columns


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
