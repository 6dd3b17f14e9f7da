"""Inner products in 8-bit integers, with a bound on their error: a sieve for the search of neighbours.

Rows are turned by one random orthogonal matrix, which leaves inner products as they are and spreads what single
dimensions hold over all, so that 8 bits a number do. With x = a + e, a the rounded row, and y = b + f:
|x.y - a.b| = |e.b + x.f| <= |e| |b| + |x| |f|, all of which is known.

Shapes: n queries, m rows of a bank, D dimensions.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Ints
from domix.runtime.seeds import numpy_generator

MOST = 127  # of an 8-bit number
ROUNDING = 1e-5  # of products in single precision, as a share of the rows' lengths


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
        self.lengths: Floats = np.linalg.norm(rows, axis=1).astype(np.float64)
        self.kept_lengths: Floats = np.linalg.norm(kept, axis=1).astype(np.float64)
        self.errors: Floats = np.linalg.norm(rows - kept, axis=1).astype(np.float64)

    def pairs_above(self, bank: Quantised, least: Array, *, leave_out: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
        """Return the pairs whose inner product may be above `least` [n] of the query: rows and columns, in order.

        Args:
            bank: rows of one scale.
            least: of each query.
            leave_out: pairs that are none.
        """
        import torch

        products = torch._int_mm(self.numbers, bank.numbers.T).numpy()
        products[leave_out] = np.iinfo(np.int32).min
        slack = self.errors * bank.kept_lengths.max() + self.lengths * bank.errors.max()
        slack += ROUNDING * self.lengths * bank.lengths.max()
        limit = np.ceil((least - slack) / (self.scale[:, 0] * float(bank.scale[0, 0])))
        limit = np.clip(limit, -(2**31) + 1, 2**31 - 1).astype(np.int32)
        rows, columns = np.divmod(np.flatnonzero(products >= limit[:, None]), products.shape[1])
        return rows, columns


@cache
def quantised_is_faster() -> bool:
    """Return whether this processor multiplies 8-bit integers faster than single precision; tried out once."""
    import torch

    floats = np.ones((512, 512), np.float32)
    small = torch.ones((512, 512), dtype=torch.int8)
    seconds = {"float": np.inf, "small": np.inf}
    for _ in range(4):
        started = time.perf_counter()
        floats @ floats.T
        between = time.perf_counter()
        torch._int_mm(small, small.T)
        seconds["float"] = min(seconds["float"], between - started)
        seconds["small"] = min(seconds["small"], time.perf_counter() - between)
    return seconds["small"] < 0.75 * seconds["float"]
