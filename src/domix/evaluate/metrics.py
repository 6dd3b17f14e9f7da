"""Accuracy of predictions. Shapes: N images, K classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def per_class(label: Ints, correct: NDArray[np.bool_], count: int) -> tuple[Ints, Ints]:
    """Return how many images each of `count` classes has, and how many of them are right: int64 [K] each."""
    return np.bincount(label, minlength=count), np.bincount(label[correct], minlength=count)


def accuracy(correct: NDArray[np.bool_]) -> float:
    """Return the share of images that are right; NaN without images."""
    return float(correct.mean()) if len(correct) else float("nan")


def balanced_accuracy(label: Ints, correct: NDArray[np.bool_]) -> float:
    """Return the mean over the classes that occur in `label` of the share that is right; NaN without images."""
    if len(label) == 0:
        return float("nan")
    images, right = per_class(label, correct, int(label.max()) + 1)
    return float((right[images > 0] / images[images > 0]).mean())


def macro_f1(label: Ints, predicted: Ints) -> float:
    """Return the mean F1 score of the classes that occur in `label`; NaN without images.

    F1 = 2 hits / (images of the class + predictions of it), as in the reference's top-k evaluation: predictions of a
    class that does not occur count as misses, but add no class to the mean.
    """
    if len(label) == 0:
        return float("nan")
    count = int(max(label.max(), predicted.max())) + 1
    images, right = per_class(label, label == predicted, count)
    said = np.bincount(predicted, minlength=count)
    occurs = images > 0
    return float((2 * right[occurs] / (images + said)[occurs]).mean())
