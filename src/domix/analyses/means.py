"""Means of groups, and of what is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def known_mean(values: NDArray[np.floating], axis: int) -> NDArray[np.float64]:
    """Return the mean of the finite values along an axis, in double precision; NaN where there is none."""
    known = np.isfinite(values)
    total, count = np.where(known, values, 0.0).sum(axis=axis, dtype=np.float64), known.sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)


def group_means(
    values: NDArray[np.float32], groups: NDArray[np.int64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Average `values` [N, D] over each of `count` groups: means [count, D], NaN where empty, and sizes [count]."""
    sizes = np.bincount(groups, minlength=count)
    order = np.argsort(groups, kind="stable")
    filled = sizes > 0
    starts = (np.cumsum(sizes) - sizes)[filled]
    means = np.full((count, values.shape[1]), np.nan)
    means[filled] = np.add.reduceat(values[order].astype(np.float64), starts, axis=0) / sizes[filled, None]
    return means, sizes
