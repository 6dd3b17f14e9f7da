"""Bootstrap of AUROC and FPR95: ID and OOD images are drawn with replacement, each kind for itself.

All scores (of all models) see the same draws of the ID images and of each OOD set, so that differences between them are
paired. Nothing is sorted again: a resample is how often each image came. With the ID images in falling order of a
score, running sums of these counts say how much of ID lies above each OOD image, which is all that both metrics need.
Rows of the arrays are images, columns resamples, so that every step works on whole rows.

Shapes: P ID images, N images of an OOD set, B resamples, b of a block.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domix.evaluate.statistics import Interval, percentile_interval
from domix.ood.blocks import Array, Floats, Ints, check_scores
from domix.ood.metrics import CONVENTIONS, RECALL, auroc, crossing, fpr95, reaching
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.seeds import numpy_generator

Counts = NDArray[np.unsignedinteger[Any]]
BLOCK = 64  # resamples at a time, which is part of what a seed means
CHUNK = 1024  # rows at a time: they stay in a processor's cache
ID = "in-distribution"  # whose draws are named so


@dataclass(frozen=True)
class Resampled:
    """AUROC and FPR95 of a score on an OOD set: `estimate`s of all images, and of resamples [B]."""

    auroc: float
    fpr95: float
    aurocs: Floats
    fpr95s: Floats
    images: int  # of the smaller of the two sets

    def interval(self, metric: str, confidence: float) -> Interval:
        """Return the percentile interval of `auroc` or `fpr95`; where all resamples agree, an exact bound."""
        estimate, resampled = {"auroc": (self.auroc, self.aurocs), "fpr95": (self.fpr95, self.fpr95s)}[metric]
        return percentile_interval(estimate, resampled, confidence=confidence, classes=self.images)


def count_type(count: int) -> type:
    """Return the smallest integer that holds counts of so many drawn images, and their sums."""
    return np.uint16 if count <= np.iinfo(np.uint16).max else np.uint32


def draw_counts(count: int, columns: int, *, seed: int, name: str, block: int) -> Counts:
    """Draw `count` images with replacement, `columns` times: how often each came, [count, columns].

    Args:
        count: of images.
        columns: of resamples.
        seed: of the study.
        name: of the set: sets are drawn independently of each other.
        block: number of the block of resamples.
    """
    generator = numpy_generator(seed, "ood bootstrap", name, block)
    drawn = np.empty((columns, count), count_type(count))
    for row in drawn:  # one at a time: its counts stay in a processor's cache
        row[:] = np.bincount(generator.integers(0, count, count), minlength=count)
    return np.ascontiguousarray(drawn.T)


def bootstrap_scores(
    id_scores: Mapping[str, Array],
    ood_scores: Mapping[str, Mapping[str, Array]],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    convention: str = "plp",
    workers: int = 1,
) -> dict[tuple[str, str], Resampled]:
    """Resample each OOD set against the ID images, in all scores on the same draws.

    Args:
        id_scores: name of a score (or of a model and a score) -> scores of the ID images [P], all of the same images.
        ood_scores: name of an OOD set -> name of a score -> scores of its images [N].
        resamples: B.
        seed: of the draws.
        convention: of FPR95, see domix.ood.metrics.
        workers: threads; they change no number.

    Returns:
        (score, OOD set) -> its resamples. What is drawn depends on seed, sizes and names of the sets alone.

    Raises:
        ParameterError: there is no such convention, or no resamples are asked for.
        DataError: a set has fewer than two images, lacks a score, has another number of images in it, or a score is not
            finite.
    """
    if convention not in CONVENTIONS:
        known = ", ".join(CONVENTIONS)
        raise ParameterError(f"there is no convention {convention!r} of FPR95, but {known}", argument="convention")
    if resamples < 1:
        raise ParameterError(f"{resamples} resamples are asked for: give a number from 1", argument="resamples")
    inside = _checked_set(ID, id_scores, list(id_scores))
    outside = {name: _checked_set(name, some, list(id_scores)) for name, some in ood_scores.items()}
    sorted_scores = {score: _Sorted(values) for score, values in inside.items()}
    ranked = {
        (score, name): _Ranked(sorted_scores[score], values)
        for name, some in outside.items()
        for score, values in some.items()
    }
    sizes = {name: len(next(iter(some.values()))) for name, some in outside.items()}
    count = len(next(iter(inside.values())))
    found = {pair: (np.empty(resamples), np.empty(resamples)) for pair in ranked}

    def work(block: int) -> None:
        columns = slice(block * BLOCK, min(resamples, (block + 1) * BLOCK))
        width = columns.stop - columns.start
        drawn = draw_counts(count, width, seed=seed, name=ID, block=block)
        others = {name: draw_counts(size, width, seed=seed, name=name, block=block) for name, size in sizes.items()}
        for score, order in sorted_scores.items():
            sorted_counts = np.take(drawn, order.order, axis=0, mode="clip")
            above = running(sorted_counts)
            for name in sizes:
                pair = ranked[score, name]
                areas, rates = found[score, name]
                areas[columns], rates[columns] = _measure(order, pair, above, others[name], convention)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(-(-resamples // BLOCK))))
    return {
        (score, name): Resampled(
            auroc(inside[score], outside[name][score]),
            fpr95(inside[score], outside[name][score], convention=convention),
            *found[score, name],
            min(count, sizes[name]),
        )
        for score, name in ranked
    }


def _checked_set(name: str, scores: Mapping[str, Array], asked: list[str]) -> dict[str, Floats]:
    """Return a set's scores in double precision, each asked for, all of as many images.

    Raises:
        DataError: a score is missing, not finite, or not of as many images as the others, or there is one image alone.
    """
    if not asked:
        raise DataError("no scores are given: there is nothing to resample")
    missing = [score for score in asked if score not in scores]
    if missing:
        raise DataError(f"the set {name} lacks the score {missing[0]}, which the ID images have")
    checked = {score: check_scores(scores[score], f"the scores {score} of the set {name}") for score in asked}
    if len({len(values) for values in checked.values()}) > 1:
        raise DataError(f"the scores of the set {name} are not of as many images each: give them of the same images")
    if len(next(iter(checked.values()))) < 2:
        raise DataError(f"the set {name} has one image: an interval needs two at least")
    return checked


class _Sorted:
    """ID images in falling order of a score, and where runs of equal scores begin and end."""

    def __init__(self, scores: Floats) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.values = scores[self.order]
        fresh = np.append(True, self.values[1:] != self.values[:-1])
        starts = np.flatnonzero(fresh)
        run = np.cumsum(fresh) - 1
        self.first = starts[run]  # place where the run of each begins
        self.end = np.append(starts[1:], len(scores))[run]  # and the place after its last


class _Ranked:
    """OOD images in falling order of a score: how many ID images score more, or as much or more, and the reverse."""

    def __init__(self, inside: _Sorted, scores: Floats) -> None:
        self.order = np.argsort(-scores, kind="stable")
        falling = -scores[self.order]
        self.above = np.searchsorted(-inside.values, falling, side="left")
        self.upto = np.searchsorted(-inside.values, falling, side="right")
        self.tied = bool((self.above != self.upto).any())
        self.more = np.searchsorted(falling, -inside.values, side="left")  # OOD images above each ID image
        self.as_much = np.searchsorted(falling, -inside.values, side="right")


class Prefixes:
    """Sums of the first 0, 1, ... n rows of counts [n, b] in an order, without all of them being made."""

    def __init__(self, counts: Counts) -> None:
        """Take the counts, in their order, and sum them by runs of rows."""
        self.counts, self.step = counts, max(1, math.isqrt(len(counts)))
        self.columns = np.arange(counts.shape[1])
        whole = len(counts) // self.step
        sums = counts[: whole * self.step].reshape(whole, self.step, -1).sum(axis=1, dtype=counts.dtype)
        last = counts[whole * self.step :].sum(axis=0, dtype=counts.dtype, keepdims=True)
        self.runs = np.concatenate(
            [np.zeros_like(last), np.cumsum(np.concatenate([sums, last]), axis=0, dtype=counts.dtype)]
        )

    def _within(self, run: Ints) -> Counts:
        """Return the running sums inside a run of each column, from its first row on: [step, b]."""
        rows = run * self.step + np.arange(self.step)[:, None]
        inside = rows < len(self.counts)
        counts = np.where(inside, self.counts[np.where(inside, rows, 0), self.columns], 0)
        return self.runs[run, self.columns] + np.cumsum(counts, axis=0, dtype=counts.dtype)

    def at(self, rows: Ints) -> Ints:
        """Return each column's sum over its first `rows` [b]."""
        run = np.minimum(rows // self.step, len(self.runs) - 2)
        left = rows - run * self.step
        sums = self._within(run)[np.maximum(left, 1) - 1, self.columns]
        return np.where(left > 0, sums, self.runs[run, self.columns]).astype(np.int64)

    def reaching(self, level: Ints) -> Ints:
        """Return the first row of each column with which the sum is `level` [b] or more; levels are in 1..total."""
        run = (self.runs < level).sum(axis=0) - 1
        return run * self.step + (self._within(run) < level).sum(axis=0)


def running(counts: Counts) -> Counts:
    """Return the sums of the first 0, 1, ... n rows: [n + 1, b].

    Rows are laid out in runs that are summed side by side, for np.cumsum goes through columns one by one.
    """
    count, width = counts.shape
    step = max(1, math.isqrt(count))
    runs = -(-count // step)
    sums = np.zeros((runs * step + 1, width), counts.dtype)
    sums[1 : count + 1] = counts
    laid = sums[1:].reshape(runs, step, width)
    for place in range(1, step):
        laid[:, place] += laid[:, place - 1]
    for run in range(1, runs):
        laid[run] += laid[run - 1, -1]
    return sums[: count + 1]


def first_reaching(sums: Counts, level: Ints) -> Ints:
    """Return the first row with which each column's running sum [n + 1, b] is `level` [b] or more, in 1..total."""
    low, high = np.zeros(sums.shape[1], np.int64), np.full(sums.shape[1], len(sums) - 1)
    columns = np.arange(sums.shape[1])
    for _ in range(len(sums).bit_length()):
        middle = (low + high) // 2
        enough = sums[middle, columns] >= level
        low, high = np.where(enough, low, np.minimum(middle + 1, high)), np.where(enough, middle, high)
    return low - 1


def _measure(inside: _Sorted, outside: _Ranked, above: Counts, drawn: Counts, convention: str) -> tuple[Floats, Floats]:
    """Return AUROC and FPR95 of the resamples of a block [b].

    Args:
        inside: the ID images.
        outside: the OOD images.
        above: running sums of the ID images' counts, in falling order [P + 1, b].
        drawn: counts of the OOD images [N, b].
        convention: of FPR95.
    """
    count, other = len(above) - 1, len(drawn)
    counts = np.take(drawn, outside.order, axis=0, mode="clip")
    wins = _total(above, outside.above, counts)
    both = wins + (_total(above, outside.upto, counts) if outside.tied else wins)
    aurocs = both / (2.0 * count * other)
    found, columns = Prefixes(counts), np.arange(drawn.shape[1])
    if convention == "openood":
        # From below, the first OOD image up to which 95 % are found; counted from above, as here, one of the last.
        place = found.reaching(np.full(len(columns), other - reaching(other) + 1))
        return aurocs, (count - above[outside.above[place], columns].astype(np.float64)) / count
    place = first_reaching(above, np.full(len(columns), crossing(count)))
    low, high = (above[ends[place], columns].astype(np.int64) for ends in (inside.first, inside.end))
    before, after = found.at(outside.more[place]), found.at(outside.as_much[place])
    if convention == "plp":
        share = (RECALL - low / count) / (high / count - low / count)
        return aurocs, (before + share * (after - before)) / other
    following = first_reaching(above, np.minimum(high + 1, count))  # the next ID image that was drawn
    beyond = np.where(high == count, after, found.at(outside.more[following]))
    nearer = abs(low / count - RECALL) < abs(high / count - RECALL)
    return aurocs, np.where(nearer, before, beyond) / other


def _total(sums: Counts, rows: Ints, counts: Counts) -> Floats:
    """Return the sum of some running sums [rows] times counts [rows, b], exactly: [b]."""
    total = np.zeros(counts.shape[1])
    wide = int(sums[-1].max(initial=0)) * len(counts) >= 1 << 32  # as many OOD images are drawn as there are
    total_type = np.uint64 if wide else np.uint32
    for start in range(0, len(rows), CHUNK):
        some = slice(start, start + CHUNK)
        picked = np.take(sums, rows[some], axis=0, mode="clip").astype(total_type)
        total += np.einsum("nb,nb->b", picked, counts[some].astype(total_type))
    return total
