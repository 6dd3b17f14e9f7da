"""Privileged directions of a classification head: which of its singular directions activations lie along.

    W = sum_i s_i u_i v_i^T                       head [C, D]: text prototypes of a zero-shot model, or a linear layer
    importance_i = s_i mean_n |cos(v_i, h_n)|     `abs_mean`; or s_i |mean_n cos(v_i, h_n)|, `mean_abs`

The sign of v_i means nothing, so that an absolute value must be taken; whether before or after the mean over images is
a choice. A privileged direction is one whose importance stands far above the others'.

Directions whose singular value is rounding (numpy's rule of the rank; of single precision, unless the head is given in
double) are left out: a head whose prototypes span few dimensions has no more directions than that.

Shapes: C classes, D components, R directions, N images, J axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from domix.ood.blocks import Array, Floats, Rows, blocks, shape_of
from domix.runtime.errors import DataError
from domix.signature.outliers import DEVIATIONS, stand_out

Importance = Literal["abs_mean", "mean_abs"]
BLOCK = 2048  # images at a time


@dataclass(frozen=True)
class HeadDirections:
    """The singular value decomposition of a head, singular values falling."""

    left: Floats  # u_i as columns [C, R]
    singular_values: Floats  # s_i [R]
    right: Floats  # v_i as rows [R, D]


@dataclass(frozen=True)
class Cosines:
    """How activations lie along directions, means over images [R]."""

    absolute: Floats  # mean_n |cos(v_i, h_n)|
    signed: Floats  # mean_n cos(v_i, h_n)
    with_mean: Floats  # |cos(v_i, mean_n h_n)|


@dataclass(frozen=True)
class HeavyTail:
    """How unequal importances are.

    Attributes:
        top: the largest.
        max_to_mean: largest by mean.
        kurtosis: of their values, population and not excess; NaN where all are equal.
        standing_out: how many stand above mean + 6 std (outliers.stand_out).
        effective_rank: exp(entropy of importances that sum to 1): as many directions of equal importance.
    """

    top: float
    max_to_mean: float
    kurtosis: float
    standing_out: int
    effective_rank: float


def head_directions(head: Array) -> HeadDirections:
    """Decompose a head [C, D].

    Raises:
        DataError: it is no matrix of finite numbers, or zero.
    """
    matrix = np.concatenate([block for _, block in blocks(head, "the head's weights")])
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    precision = np.finfo(np.float64 if head.dtype == np.float64 else np.float32).eps
    rank = int((values > values[0] * max(matrix.shape) * precision).sum())
    if rank == 0:
        raise DataError("the head is zero, so that it has no directions: was it trained?")
    return HeadDirections(left[:, :rank], values[:rank], right[:rank])


def cosines(directions: HeadDirections, activations: Rows) -> Cosines:
    """Compare activations [N, D] with the directions of a head, in single precision where they are given in no more.

    Raises:
        DataError: the head is of another width, there are fewer images than directions, a value is not finite, or an
            activation is zero.
    """
    count = check_width(directions, activations)
    if count < len(directions.right):
        raise DataError(
            f"there are {count} images for the head's {len(directions.right)} directions: give at least as many"
        )
    precision = np.float64 if _precision(activations) == np.float64 else np.float32
    right = directions.right.T.astype(precision)
    absolute, signed, total = np.zeros(right.shape[1]), np.zeros(right.shape[1]), np.zeros(len(right))
    for first, block in blocks(activations, "activations", size=BLOCK, dtype=precision):
        norms = np.linalg.norm(block, axis=1)
        if not norms.all():
            raise DataError(f"the activation of image {first + int((norms == 0).argmax())} is zero: leave it out")
        found = (block @ right) / norms[:, None]
        absolute += abs(found).sum(axis=0, dtype=np.float64)
        signed += found.sum(axis=0, dtype=np.float64)
        total += block.sum(axis=0, dtype=np.float64)
    length = np.linalg.norm(total)
    with_mean = abs(directions.right @ total) / length if length > 0 else np.full(len(absolute), np.nan)
    return Cosines(absolute / count, signed / count, with_mean)


def importance(singular_values: ArrayLike, found: Cosines, kind: Importance = "abs_mean") -> Floats:
    """Return the importance [R] of directions with these singular values and cosines."""
    return np.asarray(singular_values) * (found.absolute if kind == "abs_mean" else abs(found.signed))


def head_importance(head: Array, activations: Rows, kind: Importance = "abs_mean") -> Floats:
    """Return the importance [R] of each direction of a head [C, D] for activations [N, D], singular values falling.

    Raises:
        DataError: as `head_directions` and `cosines`.
    """
    directions = head_directions(head)
    return importance(directions.singular_values, cosines(directions, activations), kind)


def heavy_tail(importances: ArrayLike, deviations: float = DEVIATIONS) -> HeavyTail:
    """Tell how far the largest importances [R] stand above the others.

    Raises:
        DataError: all are zero: no activation lies along any direction.
    """
    values = np.asarray(importances, dtype=np.float64)
    if not values.sum() > 0:
        raise DataError("the importances of all directions are zero: the activations are orthogonal to the head")
    mean = float(values.mean())
    variance = float(values.var())
    kurtosis = ((values - mean) ** 4).mean() / variance**2 if variance > (1e-12 * mean) ** 2 else np.nan
    return HeavyTail(
        top=float(values.max()),
        max_to_mean=float(values.max() / mean),
        kurtosis=float(kurtosis),
        standing_out=len(stand_out(values, deviations)[0]),
        effective_rank=effective_rank(values),
    )


def effective_rank(importances: ArrayLike) -> float:
    """Return exp(-sum p ln p) with p = importances / their sum (Roy and Vetterli 2007)."""
    values = np.asarray(importances, dtype=np.float64)
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def axis_alignment(directions: HeadDirections, axes: ArrayLike) -> Floats:
    """Return |v_i[j]| of every direction and of some coordinate axes j, such as outlier features: [R, J]."""
    return abs(directions.right[:, np.asarray(axes, dtype=np.int64)])


def check_width(directions: HeadDirections, activations: Rows) -> int:
    """Return how many activations there are.

    Raises:
        DataError: the head is of another width.
    """
    count, width = shape_of(activations, "activations")
    if width != directions.right.shape[1]:
        raise DataError(
            f"the head is {directions.right.shape[1]} wide, but the activations {width}: give those that it reads"
        )
    return count


def _precision(activations: Rows) -> NDArray | np.dtype:
    parts = [activations] if isinstance(activations, np.ndarray) else activations
    return np.result_type(*(part.dtype for part in parts))
