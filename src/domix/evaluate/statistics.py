"""How sure an accuracy is: intervals, the comparison of two models on the same images, and what it could have shown.

Intervals come from resamples (domix.evaluate.bootstrap), which cover the choice of classes and images, and of seeds
where there are several, or, for a count out of independent trials, from the binomial distribution.

Shapes: N images, K classes, B resamples, P pairs of models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy  # loads its parts when they are first used: special takes a quarter of a second
from numpy.typing import ArrayLike, NDArray

from domix.runtime.seeds import numpy_generator

Floats = NDArray[np.float64]
BOOTSTRAP, CLOPPER_PEARSON, NONE = "bootstrap", "clopper-pearson", "none"
BLOCK_CELLS = 200_000  # signs in memory at once: few enough for a processor's cache
POWER = 0.8  # with which a detectable difference would be detected
ALIKE = 1e-6  # resamples that differ by less are equal, but for rounding in float32


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval; `method` says how the interval was got."""

    estimate: float
    low: float
    high: float
    method: str


def percentile_interval(
    estimate: float, resampled: Floats, *, confidence: float, classes: int, least: float = 0.0
) -> Interval:
    """Return the bootstrap's percentile interval of an accuracy or, with `least` = -1, of a difference of two.

    Where all images are right, or all are wrong, or two models agree on all, so do all resamples, and the interval
    would collapse. Then Clopper and Pearson's exact bound stands in, counted over classes: if accuracies in 0..1 have
    mean m, a class is all wrong with probability at most 1 - m, however alike its images are.

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


def clopper_pearson(successes: ArrayLike, n: ArrayLike, confidence: float) -> tuple[Floats, Floats]:
    """Return the exact binomial interval of a share, `successes` of `n` independent trials (Clopper, Pearson 1934).

    Works on arrays of any one shape. Without trials nothing is known: 0 to 1.
    """
    right, trials = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    tail = (1 - confidence) / 2
    some, not_all = right > 0, right < trials
    low = scipy.special.betaincinv(np.where(some, right, 1), trials - right + 1, tail)
    high = scipy.special.betaincinv(right + 1, np.where(not_all, trials - right, 1), 1 - tail)
    return np.where(some, low, 0.0), np.where(not_all, high, 1.0)


def detectable_difference(resampled: Floats, *, confidence: float) -> float:
    """Return the least true difference that a comparison like this one would show with probability POWER.

    The difference's standard error is that of its resamples [B]: a normal estimate of it leaves 0 outside its interval
    with probability POWER where the truth is (z of the interval + z of POWER) standard errors away (Bloom 1995,
    "Minimum detectable effects"). NaN where all resamples are alike, which say nothing of the error.
    """
    if np.ptp(resampled) < ALIKE:
        return float("nan")
    reach = scipy.special.ndtri(1 - (1 - confidence) / 2) + scipy.special.ndtri(POWER)
    return float(reach * resampled.std(ddof=1))


def sign_flip_test(label: NDArray[np.int64], difference: NDArray[np.float64], *, resamples: int, seed: int) -> Floats:
    """Return the two-sided p-values [P] of paired differences in balanced accuracy, by permutation tests over classes.

    If two models were alike, which of them does better on a class would be chance. The class differences' signs are
    flipped at random, all images of a class together, and the share of flips whose mean is at least as far from zero
    as the observed one is counted, the observed one included: p is never 0, and 1 where the models are alike.

    Args:
        difference: how right one model is less how right the other is, -1 to 1, one column a pair of models [N, P]; of
            several seeds or checkpoints, the mean. All pairs see the same flips.
    """
    _, place, sizes = np.unique(label, return_inverse=True, return_counts=True)
    sums = [np.bincount(place, weights=column, minlength=len(sizes)) for column in difference.T]
    by_class = np.stack(sums, axis=1) / sizes[:, None]  # [K, P]
    observed = abs(by_class.sum(axis=0))
    generator = numpy_generator(seed, "sign flips")
    block = max(1, BLOCK_CELLS // len(sizes))
    extreme = np.zeros(len(observed), dtype=np.int64)
    for start in range(0, resamples, block):
        shape = (min(block, resamples - start), len(sizes))
        signs = np.where(generator.random(shape, dtype=np.float32) < 0.5, -1.0, 1.0)
        extreme += (abs(signs @ by_class) >= observed - 1e-9).sum(axis=0)
    return (extreme + 1) / (resamples + 1)


def holm(p_values: NDArray[np.float64]) -> Floats:
    """Correct p-values [K] for K comparisons by Holm's step-down method; NaN stays NaN and is not counted."""
    corrected = np.full(len(p_values), np.nan)
    known = np.flatnonzero(~np.isnan(p_values))
    order = known[np.argsort(p_values[known], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected
