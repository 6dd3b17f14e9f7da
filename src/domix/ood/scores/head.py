"""Scores of features in front of a linear head: logits = x W' + b.

Shapes: N images, M of the bank, C classes, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Rows, add_by_class, blocks, check_labels, shape_of, unit
from domix.ood.quantiles import quantile
from domix.ood.scores.logits import energy
from domix.ood.scores.registry import score
from domix.ood.search import Likeness, nearest
from domix.runtime.errors import DataError, ParameterError

BLOCK = 1024  # images whose logits are in memory at once


class Head:
    """A linear head in double precision."""

    def __init__(self, weight: Array, bias: Array) -> None:
        """Take W [C, D] and b [C].

        Raises:
            DataError: they do not fit, or a number is not finite.
        """
        self.weight = np.concatenate([block for _, block in blocks(weight, "the head's weights")])
        self.bias = np.asarray(bias, np.float64)
        if self.bias.shape != (len(self.weight),):
            raise DataError(
                f"the head has {len(self.weight)} classes, its bias is of shape {self.bias.shape}: give one a class"
            )
        if not np.isfinite(self.bias).all():
            raise DataError("the head's bias is not finite: give another head")

    def check(self, rows: Rows, what: str) -> None:
        """Check that rows fit.

        Raises:
            DataError: they are of another width.
        """
        (_, width), takes = shape_of(rows, what), self.weight.shape[1]
        if width != takes:
            raise DataError(f"the head takes {takes} dimensions, {what} have {width}: give the features in front of it")

    def logits(self, features: Array) -> Floats:
        """Return the logits [n, C] of features [n, D]."""
        return features @ self.weight.T + self.bias

    def energies(
        self,
        features: Rows,
        shape: Callable[[Floats], Floats] = lambda rows: rows,
        *,
        what: str = "the features",
    ) -> Floats:
        """Return the energies [N] of features that are shaped first.

        Raises:
            DataError: the features do not fit, or a number is not finite.
        """
        self.check(features, what)
        parts = blocks(features, what, size=BLOCK)
        return np.concatenate([energy(self.logits(shape(block))) for _, block in parts])


def principal_dimensions(width: int) -> int:
    """Return how many principal dimensions the paper's code takes: 1000 of 2048 on, 512 of 768 on, else half."""
    return 1000 if width >= 2048 else 512 if width >= 768 else width // 2


class Residuals:
    """What features have outside their principal subspace, the origin moved to -W^+ b (Wang et al. 2022)."""

    def __init__(self, bank: Rows, head: Head, dimensions: int | None) -> None:
        """Fit the subspace on ID training images: of the second moments' eigenvectors the foremost.

        Raises:
            ParameterError: there are not so many dimensions.
            DataError: the bank does not fit the head, or a number is not finite.
        """
        head.check(bank, "the bank's features")
        count, width = shape_of(bank, "the bank's features")
        kept = principal_dimensions(width) if dimensions is None else dimensions
        if not 0 < kept < width:
            raise ParameterError(
                f"{kept} principal dimensions of {width} are asked for: give 1 to {width - 1}",
                argument="dimensions",
            )
        self.origin = -np.linalg.pinv(head.weight) @ head.bias
        moments = np.zeros((width, width))
        for _, block in blocks(bank, "the bank's features"):
            around = block - self.origin
            moments += around.T @ around
        self.basis = np.linalg.eigh(moments / count)[1][:, : width - kept]  # eigenvalues rise

    def lengths(self, block: Floats) -> Floats:
        """Return |x outside the subspace| [n]."""
        return np.linalg.norm((block - self.origin) @ self.basis, axis=1)


@score("residual", source="Wang et al. 2022, arXiv 2203.10807")
def residual(features: Rows, bank: Rows, weight: Array, bias: Array, *, dimensions: int | None = None) -> Floats:
    """Return -|x outside the bank's principal subspace| [N].

    Args:
        features: of the images, in front of the head.
        bank: features of ID training images.
        weight: of the head.
        bias: of it.
        dimensions: of the principal subspace; by default `principal_dimensions`.

    Raises:
        ParameterError: there are not so many dimensions.
        DataError: arrays do not fit, or a number is not finite.
    """
    head = Head(weight, bias)
    head.check(features, "the features")
    fitted = Residuals(bank, head, dimensions)
    return -np.concatenate([fitted.lengths(block) for _, block in blocks(features, "the features")])


@score("vim", source="Wang et al. 2022, arXiv 2203.10807")
def vim(features: Rows, bank: Rows, weight: Array, bias: Array, *, dimensions: int | None = None) -> Floats:
    """Return energy - alpha |residual| [N]: alpha gives the bank's residuals the mean of its highest logits.

    Arguments and errors are those of `residual`; besides, the bank must have residuals.
    """
    head = Head(weight, bias)
    energies = head.energies(features)
    fitted = Residuals(bank, head, dimensions)
    highest = beyond = 0.0
    for _, block in blocks(bank, "the bank's features", size=BLOCK):
        highest += float(head.logits(block).max(axis=1).sum())
        beyond += float(fitted.lengths(block).sum())
    if beyond == 0:
        raise DataError("the bank's features lie in their principal subspace: give fewer dimensions")
    lengths = np.concatenate([fitted.lengths(block) for _, block in blocks(features, "the features")])
    return energies - highest / beyond * lengths


@score("nnguide", source="Park et al. 2023, arXiv 2309.14888")
def nnguide(features: Rows, bank: Rows, weight: Array, bias: Array, *, k: int = 10) -> Floats:
    """Return energy times guidance [N]: the mean of the k highest cosines with the bank, each times its energy.

    The paper's bank is a draw of 1 % of ImageNet's training images.

    Raises:
        ParameterError: k is below 1.
        DataError: the bank has fewer than k images, arrays do not fit, or a number is not finite.
    """
    head = Head(weight, bias)
    energies = head.energies(features)
    likeness = Likeness(unit, unit, weights=head.energies(bank, what="the bank's features"))
    found = nearest(features, bank, k, likeness=likeness)
    return energies * found.similarity.mean(axis=1)


@score("she", source="Zhang et al. 2023, ICLR (SHE, openreview KkazG4lgKL)")
def she(features: Rows, bank: Rows, labels: NDArray[np.int64], weight: Array, bias: Array) -> Floats:
    """Return x . m_c [N]: c the predicted class, m_c the mean of the bank's images of it that are predicted right.

    A class without such takes the mean of the whole bank.

    Raises:
        DataError: arrays do not fit, or a number is not finite.
    """
    head = Head(weight, bias)
    head.check(features, "the features")
    head.check(bank, "the bank's features")
    count, width = shape_of(bank, "the bank's features")
    known = check_labels(labels, count, "the labels")
    sums, sizes, everything = np.zeros_like(head.weight), np.zeros(len(head.weight)), np.zeros(width)
    for start, block in blocks(bank, "the bank's features", size=BLOCK):
        predicted = head.logits(block).argmax(axis=1)
        right = predicted == known[start : start + len(block)]
        add_by_class(sums, block[right], predicted[right])
        sizes += np.bincount(predicted[right], minlength=len(sizes))
        everything += block.sum(axis=0)
    patterns = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], everything / count)
    found = []
    for _, block in blocks(features, "the features", size=BLOCK):
        found.append(np.einsum("nd,nd->n", block, patterns[head.logits(block).argmax(axis=1)]))
    return np.concatenate(found)


@score("react", source="Sun et al. 2021, arXiv 2111.12797")
def react(features: Rows, bank: Rows, weight: Array, bias: Array, *, share: float = 0.9) -> Floats:
    """Return the energy of features that are cut off above a quantile of all activations of the bank [N].

    Raises:
        ParameterError: the share is outside 0..1.
        DataError: arrays do not fit, or a number is not finite.
    """
    head = Head(weight, bias)
    head.check(bank, "the bank's features")
    highest = quantile(bank, share, "the bank's features")
    return head.energies(features, lambda rows: np.minimum(rows, highest))


@score("ash", source="Djurisic et al. 2023, arXiv 2209.09858 (ASH-S)")
def ash(features: Rows, weight: Array, bias: Array, *, share: float = 0.9) -> Floats:
    """Return the energy of features whose lowest `share` is 0, the rest times exp(sum of all / sum of the rest) [N].

    Raises:
        ParameterError: the share is outside 0..1, or nothing is left.
        DataError: arrays do not fit, a number is not finite, or an image's highest activations do not sum to above 0.
    """

    def shaped(rows: Floats) -> Floats:
        kept = _highest(rows, share)
        left = np.zeros_like(rows)
        np.put_along_axis(left, kept, np.take_along_axis(rows, kept, axis=1), axis=1)
        return left * _scale(rows, kept)

    return Head(weight, bias).energies(features, shaped)


@score("scale", source="Xu et al. 2024, arXiv 2310.00227")
def scale(features: Rows, weight: Array, bias: Array, *, share: float = 0.85) -> Floats:
    """Return the energy of features times exp(sum of all / sum without the lowest `share`) [N].

    Raises:
        ParameterError: the share is outside 0..1, or nothing is left.
        DataError: arrays do not fit, a number is not finite, or an image's highest activations do not sum to above 0.
    """
    return Head(weight, bias).energies(features, lambda rows: rows * _scale(rows, _highest(rows, share)))


def _highest(rows: Floats, share: float) -> NDArray[np.int64]:
    """Return the places of each row's activations but the lowest `share` [n, k]."""
    width = rows.shape[1]
    kept = width - round(width * share) if 0 <= share <= 1 else 0
    if kept == 0:
        raise ParameterError(f"the share is {share}: give one in 0..1 that leaves activations", argument="share")
    return np.argpartition(rows, width - kept, axis=1)[:, width - kept :]


def _scale(rows: Floats, kept: NDArray[np.int64]) -> Floats:
    """Return exp(sum of all activations / sum of those kept) [n, 1]."""
    rest = np.take_along_axis(rows, kept, axis=1).sum(axis=1)
    if (rest <= 0).any():
        raise DataError("an image's highest activations do not sum to above 0: such features cannot be scaled")
    return np.exp(rows.sum(axis=1) / rest)[:, None]
