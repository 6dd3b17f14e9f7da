"""A linear probe that tells one group of images from the rest, judged in classes that it has not learnt from.

What it learns of a style must hold for new objects, so folds share no class; and no drawing is on both sides in two
poses. Ridge classifiers that weigh both sides alike. Shapes: N images, D embedding, F folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDS = 5


@dataclass(frozen=True)
class GroupedProbe:
    """Classifiers of F folds of classes, and what each says of the images of classes that it has not seen."""

    ridges: Sequence[Any]  # F fitted RidgeClassifiers
    held_out: Sequence[NDArray[np.int64]]  # the images [N_f] that each was not fitted on
    taken: NDArray[np.bool_]  # [N] the verdicts on them: inside the group?


def can_probe(inside: NDArray[np.bool_], label: NDArray[np.int64]) -> bool:
    """Tell whether images inside and outside a group [N] have at least two classes each, as folds of classes need."""
    return min(len(np.unique(label[inside])), len(np.unique(label[~inside]))) >= 2


def fit_grouped(
    image_embeddings: NDArray[np.float32], inside: NDArray[np.bool_], label: NDArray[np.int64]
) -> GroupedProbe:
    """Fit a classifier a fold to embeddings [N, D], their membership of the group [N] and their classes [N]."""
    from sklearn.model_selection import GroupKFold

    folds = min(FOLDS, len(np.unique(label)))
    parts = list(GroupKFold(folds).split(image_embeddings, inside, label))
    ridges = [fit_ridge(image_embeddings[learn], inside[learn]) for learn, _ in parts]
    taken = np.zeros(len(image_embeddings), bool)
    for ridge, (_, held_out) in zip(ridges, parts, strict=True):
        taken[held_out] = ridge.predict(image_embeddings[held_out])
    return GroupedProbe(ridges, [held_out for _, held_out in parts], taken)


def fit_ridge(image_embeddings: NDArray[np.float32], inside: NDArray[np.bool_]) -> Any:
    """Fit one classifier to embeddings [N, D] and their membership of the group [N]."""
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier(class_weight="balanced").fit(image_embeddings, inside)
