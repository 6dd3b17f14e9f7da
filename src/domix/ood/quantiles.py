"""Exact quantiles of more numbers than fit into memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Rows, blocks, shape_of
from domix.runtime.errors import ParameterError

BLOCK = 512  # rows at a time, which stay in a cache
HALF = 1 << 16  # values of half of a number's bits
# The upper halves in the order of the numbers: of negative ones the greatest first, and so it is with the lower halves.
ORDER = np.concatenate([np.arange(HALF - 1, HALF // 2 - 1, -1), np.arange(HALF // 2)])


def quantile(rows: Rows, share: float, what: str) -> float:
    """Return a quantile of all numbers of an array in single precision, interpolated linearly, as np.quantile does.

    Radix selection: one pass counts the upper halves of the numbers' bits, one the lower halves of those that matter.
    Memory does not grow with the array.

    Raises:
        ParameterError: the share is outside 0..1.
        DataError: there are no numbers, or one is not finite; the sentence begins with `what`.
    """
    if not 0 <= share <= 1:
        raise ParameterError(f"the share is {share}: give one in 0..1", argument="share")
    count, width = shape_of(rows, what)
    position = share * (count * width - 1)
    ranks = [int(position), min(int(position) + 1, count * width - 1)]
    upper = np.zeros(HALF, np.int64)
    for _, block in blocks(rows, what, size=BLOCK, dtype=np.float32):
        upper += np.bincount(_halves(block)[1].ravel(), minlength=HALF)
    upper = upper[ORDER]
    ends = np.cumsum(upper)
    wanted = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    lower = {half: np.zeros(HALF, np.int64) for half in wanted}
    for _, block in blocks(rows, what, size=BLOCK, dtype=np.float32):
        low, high = _halves(block)
        for half, counts in lower.items():
            counts += np.bincount(low[high == ORDER[half]], minlength=HALF)
    found = []
    for rank, half in zip(ranks, wanted, strict=True):
        within = rank - (int(ends[half]) - int(upper[half]))
        negative = half < HALF // 2
        counts = lower[half][::-1] if negative else lower[half]
        place = int(np.searchsorted(np.cumsum(counts), within, side="right"))
        found.append(_number(int(ORDER[half]) << 16 | (HALF - 1 - place if negative else place)))
    low, high = found
    return low + (high - low) * (position - ranks[0])


def _halves(block: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Return the lower and the upper halves of the bits of floats."""
    bits = np.ascontiguousarray(block, "<f4").view("<u2")
    return bits[..., 0::2], bits[..., 1::2]


def _number(bits: int) -> float:
    return float(np.array(bits, np.uint32).view(np.float32))
