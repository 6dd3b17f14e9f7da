"""How sure an accuracy is: intervals, and the comparison of two models on the same pictures.

Pictures of one class are alike, so that they are not independent draws. The bootstrap is therefore hierarchical: it
draws classes with replacement, and within each drawn class its pictures with replacement. An interval covers the choice
of classes and pictures, not the chance in a training. All models are resampled alike.

Shapes: N pictures, K classes, B resamples, M measures (columns of zeros and ones: right or wrong).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domix.runtime.seeds import numpy_generator

Floats = NDArray[np.float64]
BOOTSTRAP, CLOPPER_PEARSON, NONE = "bootstrap", "clopper-pearson", "none"
BLOCK_CELLS = 200_000  # drawn pictures, or signs, in memory at once: few enough for a processor's cache
ALIKE = 1e-6  # resamples that differ by less are equal, but for rounding in float32


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; `method` says how the interval was got."""

    estimate: float
    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Resamples:
    """Estimates on B resamples, float64 [B, M]: `balanced` the mean of per-class accuracies, `pooled` over pictures."""

    balanced: Floats
    pooled: Floats


def bootstrap(label: NDArray[np.int64], correct: NDArray[np.bool_], *, resamples: int, seed: int) -> Resamples:
    """Resample classes, and pictures within them, and measure each resample.

    Args:
        label: class of each picture [N]; any integers.
        correct: which pictures are right, one column a measure [N, M].

    A class drawn m times brings m independent draws of its n pictures. The result depends on `seed`, `label` and
    `correct`, and no column on the others.
    """
    order, sizes = _by_class(label)
    offset = np.cumsum(sizes) - sizes
    right = np.ascontiguousarray(correct[order], dtype=np.float32)
    weight = (1.0 / np.repeat(sizes, sizes)).astype(np.float32)
    balanced, pooled = np.empty((resamples, right.shape[1])), np.empty((resamples, right.shape[1]))
    done = 0
    for picked, uniform in draws(sizes, resamples=resamples, seed=seed):
        count = sizes[picked.ravel()]
        chosen = np.repeat(offset[picked.ravel()], count) + (uniform * np.repeat(count, count)).astype(np.int64)
        resample = np.repeat(np.arange(len(picked)), sizes[picked].sum(axis=1))
        times = np.bincount(resample * len(order) + chosen, minlength=len(picked) * len(order))
        times_BN = times.reshape(len(picked), len(order)).astype(np.float32)
        part = slice(done, done + len(picked))
        pooled[part] = (times_BN @ right) / times_BN.sum(axis=1, keepdims=True)
        balanced[part] = (times_BN * weight) @ right / len(sizes)
        done += len(picked)
    return Resamples(balanced, pooled)


def draws(sizes: NDArray[np.int64], *, resamples: int, seed: int) -> Iterator[tuple[NDArray[np.int64], Floats]]:
    """Draw the bootstrap's random numbers, some resamples at a time.

    Yields the drawn classes int64 [b, K], and for every picture to draw a number in 0..1, float64: those of the first
    resample's first drawn class first (as many as it has pictures), then those of its second, and so on. How many
    resamples come at a time changes nothing of what is drawn.
    """
    classes, pictures = numpy_generator(seed, "bootstrap classes"), numpy_generator(seed, "bootstrap pictures")
    block = max(1, BLOCK_CELLS // int(sizes.sum()))
    for start in range(0, resamples, block):
        shape = (min(block, resamples - start), len(sizes))
        picked = (classes.random(shape) * len(sizes)).astype(np.int64)
        yield picked, pictures.random(int(sizes[picked].sum()))


def percentile_interval(
    estimate: float, resampled: Floats, *, confidence: float, classes: int, least: float = 0.0
) -> Interval:
    """Return the bootstrap's percentile interval of an accuracy or, with `least` = -1, of a difference of two.

    Where all pictures are right, or all are wrong, or two models agree on all, so do all resamples, and the interval
    would collapse. Then Clopper and Pearson's exact bound stands in, counted over classes: if accuracies in 0..1 have
    mean m, a class is all wrong with probability at most 1 - m, however alike its pictures are.

    Args:
        resampled: the estimate on each resample [B].
        classes: how many classes there are.
    """
    tail = (1 - confidence) / 2
    if np.ptp(resampled) < ALIKE:
        reach = 1 - tail ** (1 / classes)
        return Interval(estimate, max(least, estimate - reach), min(1.0, estimate + reach), CLOPPER_PEARSON)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high), BOOTSTRAP)


def sign_flip_test(label: NDArray[np.int64], difference: NDArray[np.float64], *, resamples: int, seed: int) -> float:
    """Return the two-sided p-value of a paired difference in balanced accuracy, by a permutation test over classes.

    If two models were alike, which of them does better on a class would be chance. The class differences' signs are
    flipped at random, all pictures of a class together, and the share of flips whose mean is at least as far from zero
    as the observed one is counted, the observed one included: p is never 0, and 1 where the models are alike.

    Args:
        difference: one model's 0 or 1 less the other's, for each picture [N].
    """
    order, sizes = _by_class(label)
    starts = np.cumsum(sizes) - sizes
    by_class = np.add.reduceat(difference[order], starts) / sizes
    observed = abs(by_class.sum())
    generator = numpy_generator(seed, "sign flips")
    block = max(1, BLOCK_CELLS // len(sizes))
    extreme = 0
    for start in range(0, resamples, block):
        shape = (min(block, resamples - start), len(sizes))
        signs = np.where(generator.random(shape, dtype=np.float32) < 0.5, -1.0, 1.0)
        extreme += int((abs(signs @ by_class) >= observed - 1e-9).sum())
    return (extreme + 1) / (resamples + 1)


def holm(p_values: NDArray[np.float64]) -> Floats:
    """Correct p-values [K] for K comparisons by Holm's step-down method; NaN stays NaN and is not counted."""
    corrected = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def _by_class(label: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the order that brings pictures of one class together [N], and the classes' sizes [K]."""
    order = np.argsort(label, kind="stable")
    _, sizes = np.unique(label, return_counts=True)
    return order, sizes
