"""What is measured of one model of a zoo: accuracy on every set, its signature, and what pruning of its head costs.

Accuracy is top-1 over images. Of a set that holds some of the classes alone, answers are restricted to these
(`subset`), as is usual for ImageNet-R, -A and ObjectNet; where several labels are right (ObjectNet), any of them
counts.

Shapes: N images, D components, C classes, R directions, P shares pruned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.pruning.computation import orders
from domix.analyses.pruning.settings import Settings
from domix.evaluate.robustness import classify_set
from domix.runtime.arrays import BLOCK
from domix.runtime.errors import DataError
from domix.signature.directions import HeadDirections, head_directions
from domix.signature.pruning import PERCENT, correct_when_pruned, kept_count, pruned_head
from domix.signature.summary import signature_numbers

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]
IMPORTANCE = "importance"  # the order of pruning that is shown
DRAWS = 3  # random orders of pruning


@dataclass(frozen=True)
class SetFeatures:
    """What a model makes of a set's images, and which answers are right.

    Attributes:
        features: of the images [N, D].
        labels: of the images [N].
        subset: labels that may be given, rising; None: all.
        answers: for each label those that are right; None: that one.
    """

    features: Vectors
    labels: Ints
    subset: Sequence[int] | None = None
    answers: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True)
class Head:
    """What reads the features: weight [C, D], and bias [C] or None."""

    weight: Vectors
    bias: Vectors | None = None


def set_accuracy(images: SetFeatures, head: Head) -> float:
    """Return the share of a set's images that are given a right label.

    Raises:
        DataError: widths differ, or no right label may be given of an image.
    """
    if head.weight.shape[1] != images.features.shape[1]:
        raise DataError(
            f"the head reads {head.weight.shape[1]} components, but the features have {images.features.shape[1]}: give"
            " those that the head reads"
        )
    scores = _scores(images.features, head)
    return float(classify_set(scores, images.labels, subset=images.subset, answers=images.answers).right().mean())


def model_numbers(known: SetFeatures, shifts: Mapping[str, SetFeatures], head: Head) -> dict[str, Any]:
    """Return accuracies on the known images and under each shift, and the signature on the known images.

    Raises:
        DataError: there are fewer images than directions of the head, or an activation or the head is not finite or
            dead.
    """
    numbers: dict[str, Any] = {"n": len(known.labels), "width": known.features.shape[1]}
    numbers["id"] = set_accuracy(known, head)
    numbers |= {f"accuracy {name}": set_accuracy(images, head) for name, images in shifts.items()}
    return numbers | signature_numbers(known.features, head.weight)


def pruning_curves(known: SetFeatures, shifts: Mapping[str, SetFeatures], head: Head) -> pd.DataFrame:
    """Return accuracy by share of the head's directions pruned: `order, draw, percent, kept, set, accuracy`.

    The known images are `id`. Importance is that for the known images.

    Raises:
        DataError: as `model_numbers`.
    """
    directions = head_directions(head.weight)
    drawn = list(orders(directions, known.features, Settings(draws=DRAWS)))
    rows = []
    for name, images in {"id": known, **shifts}.items():
        for order, draw, places in drawn:
            found = _accuracies_when_pruned(directions, images, places, head.bias)
            rows += [
                {"order": order, "draw": draw, "percent": percent, "kept": kept_count(len(places), percent)}
                | {"set": name, "accuracy": float(accuracy)}
                for percent, accuracy in zip(PERCENT, found, strict=True)
            ]
    return pd.DataFrame(rows)


def _accuracies_when_pruned(
    directions: HeadDirections, images: SetFeatures, order: Ints, bias: Vectors | None
) -> Sequence[float]:
    """Return the accuracy at each share of PERCENT; all at once where one label is right."""
    if images.answers is not None and max(len(some) for some in images.answers) > 1:
        kept = (order[len(order) - kept_count(len(order), percent) :] for percent in PERCENT)
        return [set_accuracy(images, Head(pruned_head(directions, some).astype(np.float32), bias)) for some in kept]
    labels = images.labels
    if images.answers is not None:
        labels = np.array([some[0] for some in images.answers], dtype=np.int64)[labels]
    if images.subset is not None:
        allowed = np.asarray(images.subset, dtype=np.int64)
        directions = replace(directions, left=directions.left[allowed])
        bias = None if bias is None else bias[allowed]
        labels = np.searchsorted(allowed, labels)
    return correct_when_pruned(directions, images.features, labels, order, bias=bias).mean(axis=1).tolist()


def _scores(features: Vectors, head: Head) -> Iterator[Vectors]:
    for start in range(0, len(features), BLOCK):
        found = features[start : start + BLOCK] @ head.weight.T
        yield found if head.bias is None else found + head.bias
