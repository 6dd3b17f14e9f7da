"""Resampling an evaluation: classes, the images of each, and the seeds of training.

Images of one class are alike, so that they are not independent draws. The bootstrap is therefore hierarchical: it
draws classes with replacement, and within each drawn class its images with replacement; a class drawn m times brings
m independent draws of its images. Seeds are drawn with replacement beside them, not within: all seeds of a mixture
are tested on the same images, so that a resample has one draw of images and one of seeds, and takes every drawn
seed on every drawn image (crossed factors: Owen 2007, "The pigeonhole bootstrap").

Two ways to draw, of the same distribution:
    bootstrap          one measure alone. What a drawn class brings is a number of right answers, and drawn classes are
                       independent and alike, so that these numbers are drawn and no image is.
    bootstrap_jointly  several measures on the same draws, for differences and for seeds: images are drawn, once for
                       all measures.

Shapes: N images, K classes, B resamples, M measures, S seeds, A outcomes of one drawn class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domix.runtime.seeds import numpy_generator

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
# How much is drawn at once, which is part of what a seed means.
BLOCK_CELLS = 200_000  # images: few enough for a processor's cache
BLOCK_SLOTS = 2_000_000  # classes
CHUNK = 512  # images of neighbouring classes that are drawn together: their columns stay in the cache, too
FEW = 4  # counting outcomes beats drawing them one by one where there are this many times fewer of them than classes


@dataclass(frozen=True)
class Resamples:
    """Estimates on B resamples: `balanced` the mean of per-class accuracies, `pooled` over images.

    float64, [B] of one measure, [B, M] of several.
    """

    balanced: Floats
    pooled: Floats


@dataclass(frozen=True)
class Outcomes:
    """What one drawn class may bring: `right` of `size` images, with `probability` [A]."""

    right: Ints
    size: Ints
    probability: Floats


def bootstrap(label: Ints, correct: NDArray[np.bool_], *, resamples: int, seed: int) -> Resamples:
    """Resample classes, and images within them, and measure each resample: one measure, [B].

    Args:
        label: class of each image [N]; any integers.
        correct: which images are right [N].
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
    """Return the distribution of what one drawn class brings, in its draw of its images.

    A class is drawn evenly; of its n images, x of them right, n are drawn, so that Binomial(n, x/n) are right.
    Classes of equal n and x are one.
    """
    from scipy.stats import binom  # takes half a second to import, which the report's stage, too, would wait for

    _, place, sizes = np.unique(label, return_inverse=True, return_counts=True)
    right = np.bincount(place[correct], minlength=len(sizes))
    kinds, many = np.unique(np.stack([sizes, right], axis=1), axis=0, return_counts=True)
    size = np.repeat(kinds[:, 0], kinds[:, 0] + 1)
    share = np.repeat(kinds[:, 1] / kinds[:, 0], kinds[:, 0] + 1)
    counted = np.concatenate([np.arange(n + 1) for n in kinds[:, 0]])
    probability = binom.pmf(counted, size, share) * np.repeat(many / len(sizes), kinds[:, 0] + 1)
    possible = probability > 0
    return Outcomes(counted[possible], size[possible], probability[possible] / probability.sum())


def _draw_outcomes(
    columns: Floats, probability: Floats, classes: int, resamples: int, generator: np.random.Generator
) -> Floats:
    """Draw an outcome for each of a resample's classes, and sum their columns: [B, columns]."""
    from scipy.stats.sampling import DiscreteGuideTable

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
    """Resample classes, and images within them, and measure each resample in all measures: [B, M].

    Args:
        label: class of each image [N]; any integers.
        values: how right each image is, 0 to 1, one column a measure [N, M].

    The result depends on `seed`, `label` and `values`, and no column on the others.
    """
    order = np.argsort(label, kind="stable")
    _, sizes = np.unique(label, return_counts=True)
    weight = (1.0 / (len(sizes) * np.repeat(sizes, sizes)))[:, None]
    right = np.asarray(values[order], dtype=np.float32)
    both = np.concatenate([right * weight, right], axis=1, dtype=np.float32)  # [N, 2M]
    times = draw_classes(len(sizes), resamples=resamples, seed=seed)
    generator = numpy_generator(seed, "bootstrap pictures")
    sums, start = np.zeros((resamples, both.shape[1])), 0
    for some in _chunks(sizes):
        stop = start + int(sizes[some].sum())
        block = max(1, BLOCK_CELLS // (stop - start))
        for first in range(0, resamples, block):
            rows = slice(first, first + block)
            sums[rows] += _draw_images(times[rows, some], sizes[some], generator) @ both[start:stop]
        start = stop
    balanced, pooled = np.split(sums, 2, axis=1)
    return Resamples(balanced, pooled / (times @ sizes)[:, None])


def draw_classes(classes: int, *, resamples: int, seed: int) -> Ints:
    """Draw, for each resample, as many classes as there are: how often each came, int64 [B, K]."""
    generator = numpy_generator(seed, "bootstrap classes")
    picked = generator.integers(0, classes, (resamples, classes)) + classes * np.arange(resamples)[:, None]
    return np.bincount(picked.ravel(), minlength=resamples * classes).reshape(resamples, classes)


def _chunks(sizes: Ints) -> Iterator[slice]:
    """Yield runs of classes that together have CHUNK images, or little more."""
    first, held = 0, 0
    for place, size in enumerate(sizes.tolist()):
        held += size
        if held >= CHUNK or place == len(sizes) - 1:
            yield slice(first, place + 1)
            first, held = place + 1, 0


def _draw_images(times: Ints, sizes: Ints, generator: np.random.Generator) -> NDArray[np.float32]:
    """Draw the images of some classes, each class's as often as it came: how often each image came, [b, n].

    Args:
        times: how often each class came in each resample [b, k].
        sizes: the classes' images [k], n in all.
    """
    shape = (len(times), int(sizes.sum()))
    count = (times * sizes).ravel()
    first = (np.cumsum(sizes) - sizes) + shape[1] * np.arange(len(times))[:, None]  # of each class's images
    uniform = generator.random(int(count.sum()))
    uniform *= np.repeat(np.tile(sizes.astype(np.float64), len(times)), count)
    chosen = np.repeat(first.ravel(), count) + uniform.astype(np.int64)
    return np.bincount(chosen, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float32)


def over_seeds(resampled: Floats, *, seed: int) -> Floats:
    """Draw, for each resample, as many seeds as there are, with replacement, and average the estimates of those.

    Args:
        resampled: what each seed's model has on each resample of the images [B, S].
        seed: of the draws; mixtures whose seeds are to be drawn apart need different ones.

    Returns:
        The mean over the drawn seeds [B]; with one seed, that seed's column.
    """
    picked = numpy_generator(seed, "bootstrap seeds").integers(0, resampled.shape[1], resampled.shape)
    return np.take_along_axis(resampled, picked, axis=1).mean(axis=1)
