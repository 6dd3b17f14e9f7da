"""Exact quantiles of more numbers than fit into memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Rows, blocks, shape_of
from domix.runtime.errors import ParameterError

HALF = 1 << 16  # values of half a key


def quantile(rows: Rows, share: float, what: str) -> float:
    """Return a quantile of all numbers of an array in single precision, interpolated linearly, as np.quantile does.

    Radix selection: one pass counts the upper halves of keys that order as the numbers do, one the lower halves of
    those that matter. Memory does not grow with the array.

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
    for _, block in blocks(rows, what, dtype=np.float32):
        upper += np.bincount(_keys(block) >> 16, minlength=HALF)
    ends = np.cumsum(upper)
    wanted = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    lower = {half: np.zeros(HALF, np.int64) for half in wanted}
    for _, block in blocks(rows, what, dtype=np.float32):
        keys = _keys(block)
        for half, counts in lower.items():
            counts += np.bincount(keys[keys >> 16 == half] & (HALF - 1), minlength=HALF)
    found = []
    for rank, half in zip(ranks, wanted, strict=True):
        within = rank - (int(ends[half]) - int(upper[half]))
        found.append(_number(half << 16 | int(np.searchsorted(np.cumsum(lower[half]), within, side="right"))))
    low, high = found
    return low + (high - low) * (position - ranks[0])


def _keys(block: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return whole numbers below 2^32 that order as floats do: of negative ones all bits turn, of others the sign's."""
    bits = (block + np.float32(0)).ravel().view(np.uint32)  # + 0: of two zeros one is left
    return np.where(bits >> 31 == 1, ~bits, bits | np.uint32(1 << 31)).astype(np.int64)


def _number(key: int) -> float:
    bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array(bits, np.uint32).view(np.float32))
