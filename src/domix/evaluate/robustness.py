"""Accuracy on further sets of images: ImageNet's validation images, its variants, and any other source.

A model gives every image a score for each class of the set's label space (domix.embed.label_spaces). Some labels
are right for the image, mostly one, and its rank is the place of the best of these among those that are wrong. Which
labels may be given, and which images are looked at, makes a view:

all                 all labels, all images
subset              the labels of the classes that the set has (ImageNet-R, -A, ObjectNet), as is usual for these
classes of <set>    of ImageNet alone: the images and labels of the classes that another set has, which is what
                    accuracy on that set is to be compared with (Taori et al. 2020)

Shapes: N images, C classes that have scores, B images of one block, A right labels at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.embed.embeddings import Scored, load_scored, sets_of
from domix.evaluate import metrics
from domix.evaluate.bootstrap import bootstrap
from domix.evaluate.outcomes import Plan, RunOutcomes, ScoredModel, above
from domix.evaluate.schemas import BALANCED, CURVES, POOLED, ROBUSTNESS
from domix.evaluate.statistics import CLOPPER_PEARSON, Interval, clopper_pearson, percentile_interval
from domix.evaluate.trajectories import epochs_of
from domix.evaluate.zeroshot import rank_right
from domix.runs import PUBLIC, SUPERVISED
from domix.runtime.errors import DataError, passing
from domix.runtime.seeds import derive

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
IMAGENET = "imagenet"
ALL, SUBSET, CLASSES_OF = "all", "subset", "classes of {}"


@dataclass(frozen=True)
class View:
    """Which images of a set are looked at, and what may be said of them."""

    name: str
    subset: Sequence[int] | None = None  # labels that may be given; None: all
    answers: Sequence[Sequence[int]] | None = None  # labels that are right, by the image's own; None: that one
    images: Flags | None = None  # [N]; None: all


@dataclass(frozen=True)
class Judged:
    """What became of the n images of a view."""

    label: Ints  # [n] their own labels
    predicted: Ints  # [n] label of the class that was given
    rank: Ints  # [n] place of the best right label, 1 = first

    def right(self, top_k: int = 1) -> Flags:
        """Tell of which images a right label is among the `top_k` best, [n]."""
        return self.rank <= top_k


def classify_set(
    blocks: Iterable[NDArray[np.float32]],
    label: Ints,
    *,
    subset: Sequence[int] | None = None,
    answers: Sequence[Sequence[int]] | None = None,
) -> Judged:
    """Classify images by blocks of their scores [B, C]; `label` [N] are their own labels, the rest as in View.

    Ties go against the right labels, as in zeroshot.rank_right: the prediction is right just where the rank is 1.

    Raises:
        DataError: there are more or fewer scores than labels, or no right label may be given of an image.
    """
    (judged,) = classify_views(blocks, label, [View(ALL, subset, answers)])
    return judged


def classify_views(blocks: Iterable[NDArray[np.float32]], label: Ints, views: Sequence[View]) -> list[Judged]:
    """Classify images as `classify_set` does, in one pass over the scores for several views.

    Raises:
        DataError: as classify_set.
    """
    judges = [_Judge(label, view) for view in views]
    done = 0
    for scores_BC in blocks:
        part = slice(done, done := done + len(scores_BC))
        for judge in judges if done <= len(label) else []:
            judge.take(scores_BC, part)
    if done != len(label):
        raise DataError(f"there are scores of {done:,} images, but labels of {len(label):,}", argument="blocks")
    return [judge.judged() for judge in judges]


class _Judge:
    """Collects predictions and ranks of one view, block by block."""

    def __init__(self, label: Ints, view: View) -> None:
        self.label, self.view = label, view
        self.images = np.ones(len(label), dtype=bool) if view.images is None else view.images
        self.predicted, self.rank = np.zeros(len(label), dtype=np.int64), np.zeros(len(label), dtype=np.int64)
        self.allowed = None if view.subset is None else np.asarray(view.subset, dtype=np.int64)
        self.right_NA = self._right()

    def _right(self) -> Ints:
        """Return the right columns of each image among those allowed, its first repeated to fill the row."""
        columns: dict[int, list[int]] = {}
        for own in np.unique(self.label[self.images]).tolist():
            labels = [own] if self.view.answers is None else self.view.answers[own]
            found = [self._column(label) for label in labels]
            columns[own] = [column for column in found if column is not None]
            if not columns[own]:
                raise DataError(
                    f"no right answer of label {own} is in the view {self.view.name!r}, so that the set's classes and"
                    " labels do not fit together",
                    argument="view",
                )
        width = max(map(len, columns.values()), default=1)
        table = np.zeros((max(columns, default=0) + 1, width), dtype=np.int64)
        for own, some in columns.items():
            table[own] = some + some[:1] * (width - len(some))
        return table[np.where(self.images, self.label, 0)]

    def _column(self, label: int) -> int | None:
        """Return where a label's scores stand among those allowed; None: nowhere."""
        if self.allowed is None:
            return label
        column = int(np.searchsorted(self.allowed, label))
        return column if column < len(self.allowed) and self.allowed[column] == label else None

    def take(self, scores_BC: NDArray[np.float32], part: slice) -> None:
        """Judge the next images."""
        chosen = self.images[part]
        scores = scores_BC[chosen] if self.allowed is None else scores_BC[np.ix_(chosen, self.allowed)]  # a copy
        said, rank = rank_right(scores, self.right_NA[part][chosen])
        where = np.flatnonzero(chosen) + part.start
        self.rank[where] = rank
        self.predicted[where] = said if self.allowed is None else self.allowed[said]

    def judged(self) -> Judged:
        """Return what became of the view's images."""
        return Judged(self.label[self.images], self.predicted[self.images], self.rank[self.images])


# Tables -------------------------------------------------------------------------------------------


def robustness_table(models: Iterable[ScoredModel], sets: Sequence[str], plan: Plan) -> pd.DataFrame:
    """Return the table schemas.ROBUSTNESS: one row a model, set, view and metric (top1, top<k> of more
    than k labels, balanced_top1).

    Intervals of top1 and top<k> are Clopper and Pearson's, which take the images for independent, as published
    comparisons do; those of balanced_top1 are bootstrapped over classes and images.

    Args:
        models: in the order of the table.
        sets: names of the sources whose images were embedded (embed.sets).
        plan: what is measured, and how surely.

    Raises:
        DataError: embeddings are missing or damaged, or two models were tested on different images.
    """
    rows: list[dict[str, Any]] = []
    seen: dict[str, tuple[ScoredModel, pd.DataFrame]] = {}
    for model in models:
        there = [name for name in sets if model.run.kind != SUPERVISED or name in sets_of(model.folder)]
        opened = {name: load_scored(model.folder, model.run.kind, source=name) for name in there}
        for name, scored in opened.items():
            first, images = seen.setdefault(name, (model, scored.rows))
            if not scored.rows.equals(images):
                raise DataError(
                    f"{first.folder} and {model.folder} were tested on different images of {name}",
                    remake=above(first, model),
                )
            rows += _rows_of_set(model, name, scored, list(views_of(name, opened)), plan)
    return pd.DataFrame(rows, columns=ROBUSTNESS.names) if rows else ROBUSTNESS.empty()


def set_curves(runs: Iterable[RunOutcomes], sets: Sequence[str], plan: Plan) -> pd.DataFrame:
    """Return rows of the table over checkpoints (schemas.CURVES) for further sets, without public models.

    `domain` is the set, `cells` the view: all, or subset.
    """
    rows = []
    for model in (run.model for run in runs if run.model.run.kind != PUBLIC):
        for name in (name for name in sets if name in sets_of(model.folder)):
            for epoch, checkpoint in epochs_of(model):
                scored = load_scored(model.folder, model.run.kind, checkpoint=checkpoint, source=name)
                views = list(views_of(name, {name: scored}))[:2]
                label = scored.rows["label"].to_numpy(dtype=np.int64)
                with passing(blocks=scored.folder):
                    said = classify_views(scored.blocks(), label, views)
                for view, judged in zip(views, said, strict=True):
                    head = model.run.keys | {"checkpoint": epoch, "domain": name, "cells": view.name}
                    size = {"n": len(judged.label), "n_classes": len(np.unique(judged.label))}
                    found = {POOLED: metrics.accuracy(judged.right())}
                    found[BALANCED] = metrics.balanced_accuracy(judged.label, judged.right())
                    rows += [head | {"metric": metric, "estimate": value} | size for metric, value in found.items()]
    return pd.DataFrame(rows, columns=CURVES.names)


def views_of(name: str, opened: dict[str, Scored]) -> Iterator[View]:
    """Yield the views of one of several sets that a model was tested on."""
    scored = opened[name]
    yield View(ALL, answers=scored.answers)
    if scored.subset is not None:
        yield View(SUBSET, scored.subset, scored.answers)
    if name == IMAGENET:
        label = scored.rows["label"].to_numpy(dtype=np.int64)
        for other, there in opened.items():
            images = np.isin(label, there.subset or [])
            if images.any():
                yield View(
                    CLASSES_OF.format(other), there.subset, _siblings(there.answers, len(scored.classes)), images
                )


def _siblings(answers: Sequence[Sequence[int]] | None, count: int) -> list[list[int]] | None:
    """Return for each of `count` labels those that mean the same class of a set with classes of its own."""
    if answers is None:
        return None
    siblings: list[list[int]] = [[label] for label in range(count)]
    for labels in answers:
        for label in labels:
            siblings[label] = list(labels)
    return siblings


def _rows_of_set(
    model: ScoredModel, name: str, scored: Scored, views: Sequence[View], plan: Plan
) -> Iterator[dict[str, Any]]:
    label = scored.rows["label"].to_numpy(dtype=np.int64)
    with passing(blocks=scored.folder):
        said = classify_views(scored.blocks(), label, views)
    for view, judged in zip(views, said, strict=True):
        head = model.run.keys | {"set": name, "labels": view.name}
        size = {"n": len(judged.label), "n_classes": len(np.unique(judged.label))}
        labels = len(scored.classes if view.subset is None else view.subset)
        for metric, interval in _measure(judged, labels, plan, derive(plan.seed, name, view.name)):
            numbers = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
            yield head | {"metric": metric} | numbers | size | {"method": interval.method}


def _measure(judged: Judged, labels: int, plan: Plan, seed: int) -> Iterator[tuple[str, Interval]]:
    """Yield the metrics of the images of a view, with their intervals; `labels` is how many may be given."""
    for top_k in sorted({1, plan.top_k}):
        if top_k > 1 and top_k >= labels:
            continue  # all of the labels are among the best k
        right = judged.right(top_k)
        low, high = clopper_pearson(right.sum(), len(right), plan.confidence)
        yield f"top{top_k}", Interval(metrics.accuracy(right), float(low), float(high), CLOPPER_PEARSON)
    resampled = bootstrap(judged.label, judged.right(), resamples=plan.resamples, seed=seed).balanced
    estimate = metrics.balanced_accuracy(judged.label, judged.right())
    classes = len(np.unique(judged.label))
    yield BALANCED, percentile_interval(estimate, resampled, confidence=plan.confidence, classes=classes)
