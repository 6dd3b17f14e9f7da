"""Resampling an evaluation: classes, the pictures of each, and the seeds of training.

Pictures of one class are alike, so that they are not independent draws. The bootstrap is therefore hierarchical: it
draws classes with replacement, and within each drawn class its pictures with replacement; a class drawn m times brings
m independent draws of its pictures. Seeds are drawn with replacement beside them, not within: all seeds of a mixture
are tested on the same pictures, so that a resample has one draw of pictures and one of seeds, and takes every drawn
seed on every drawn picture (crossed factors: Owen 2007, "The pigeonhole bootstrap").

Two ways to draw, of the same distribution:
    bootstrap          one measure alone. What a drawn class brings is a number of right answers, and drawn classes are
                       independent and alike, so that these numbers are drawn and no picture is.
    bootstrap_jointly  several measures on the same draws, for differences and for seeds: pictures are drawn, once for
                       all measures.

Shapes: N pictures, K classes, B resamples, M measures, S seeds, A outcomes of one drawn class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.stats.sampling import DiscreteGuideTable

from domix.runtime.seeds import numpy_generator

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
BLOCK_CELLS = 200_000  # drawn pictures in memory at once: few enough for a processor's cache
BLOCK_SLOTS = 2_000_000  # drawn classes in memory at once; part of what a seed means
FEW = 4  # counting outcomes beats drawing them one by one where there are this many times fewer of them than classes


@dataclass(frozen=True)
class Resamples:
    """Estimates on B resamples: `balanced` the mean of per-class accuracies, `pooled` over pictures.

    float64, [B] of one measure, [B, M] of several.
    """

    balanced: Floats
    pooled: Floats


@dataclass(frozen=True)
class Outcomes:
    """What one drawn class may bring: `right` of `size` pictures, with `probability` [A]."""

    right: Ints
    size: Ints
    probability: Floats


def bootstrap(label: Ints, correct: NDArray[np.bool_], *, resamples: int, seed: int) -> Resamples:
    """Resample classes, and pictures within them, and measure each resample: one measure, [B].

    Args:
        label: class of each picture [N]; any integers.
        correct: which pictures are right [N].
    """
    classes = len(np.unique(label))
    outcomes = class_outcomes(label, correct)
    right, size = outcomes.right.astype(np.float64), outcomes.size.astype(np.float64)
    columns = np.stack([right / size, right, size], axis=1)  # [A, 3]
    generator = numpy_generator(seed, "bootstrap outcomes")
    if FEW * len(columns) <= classes or len(columns) == 1:
        sums = generator.multinomial(classes, outcomes.probability, size=resamples) @ columns
    else:
        sums = _draw_outcomes(columns, outcomes.probability, classes, resamples, generator)
    return Resamples(sums[:, 0] / classes, sums[:, 1] / sums[:, 2])


def class_outcomes(label: Ints, correct: NDArray[np.bool_]) -> Outcomes:
    """Return the distribution of what one drawn class brings, in its draw of its pictures.

    A class is drawn evenly; of its n pictures, x of them right, n are drawn, so that Binomial(n, x/n) are right.
    Classes of equal n and x are one.
    """
    _, place, sizes = np.unique(label, return_inverse=True, return_counts=True)
    right = np.bincount(place[correct], minlength=len(sizes))
    kinds, many = np.unique(np.stack([sizes, right], axis=1), axis=0, return_counts=True)
    size = np.repeat(kinds[:, 0], kinds[:, 0] + 1)
    share = np.repeat(kinds[:, 1] / kinds[:, 0], kinds[:, 0] + 1)
    counted = np.concatenate([np.arange(n + 1) for n in kinds[:, 0]])
    probability = stats.binom.pmf(counted, size, share) * np.repeat(many / len(sizes), kinds[:, 0] + 1)
    possible = probability > 0
    return Outcomes(counted[possible], size[possible], probability[possible] / probability.sum())


def _draw_outcomes(
    columns: Floats, probability: Floats, classes: int, resamples: int, generator: np.random.Generator
) -> Floats:
    """Draw an outcome for each of a resample's classes, and sum their columns: [B, columns]."""
    table = DiscreteGuideTable(probability, random_state=generator)
    sums = np.empty((resamples, columns.shape[1]))
    block = max(1, BLOCK_SLOTS // classes)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        drawn = table.rvs(count * classes).reshape(count, classes)
        for column in range(columns.shape[1]):
            sums[start : start + count, column] = columns[:, column][drawn].sum(axis=1)
    return sums


def bootstrap_jointly(label: Ints, values: NDArray[np.generic], *, resamples: int, seed: int) -> Resamples:
    """Resample classes, and pictures within them, and measure each resample in all measures: [B, M].

    Args:
        label: class of each picture [N]; any integers.
        values: how right each picture is, 0 to 1, one column a measure [N, M].

    The result depends on `seed`, `label` and `values`, and no column on the others.
    """
    order = np.argsort(label, kind="stable")
    _, sizes = np.unique(label, return_counts=True)
    offset = np.cumsum(sizes) - sizes
    right = np.ascontiguousarray(values[order], dtype=np.float32)
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


def draws(sizes: Ints, *, resamples: int, seed: int) -> Iterator[tuple[Ints, Floats]]:
    """Draw the random numbers of `bootstrap_jointly`, some resamples at a time.

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


def over_seeds(resampled: Floats, *, seed: int) -> Floats:
    """Draw, for each resample, as many seeds as there are, with replacement, and average the estimates of those.

    Args:
        resampled: what each seed's model has on each resample of the pictures [B, S].
        seed: of the draws; mixtures whose seeds are to be drawn apart need different ones.

    Returns:
        The mean over the drawn seeds [B]; with one seed, that seed's column.
    """
    picked = numpy_generator(seed, "bootstrap seeds").integers(0, resampled.shape[1], resampled.shape)
    return np.take_along_axis(resampled, picked, axis=1).mean(axis=1)
