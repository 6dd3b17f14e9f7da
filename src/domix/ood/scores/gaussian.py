"""Scores of Gaussians that are fitted on ID training images.

Shapes: N images, M of the bank, K classes, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Floats, Rows, blocks, shape_of
from domix.ood.gaussians import Gaussians, fit_background, fit_gaussians, shrunk, whitening
from domix.ood.scores.registry import score
from domix.runtime.errors import DataError

BLOCK = 2048  # images at a time
NONE = 1e-11  # what is no more is nothing: of a variance of 1, and of a centre in such units


@score("mahalanobis", source="Lee et al. 2018, arXiv 1807.03888")
def mahalanobis(
    features: Rows,
    bank: Rows,
    labels: NDArray[np.int64],
    *,
    weights: str = "equal",
    shrinkage: float = 0.0,
    ridge: float = 0.0,
) -> Floats:
    """Return -min_c (x - m_c)' S^-1 (x - m_c) [N], S the covariance that classes have in common.

    Args:
        features: of the images.
        bank: features of ID training images.
        labels: their classes.
        weights: of classes in S, `equal` or `size`: domix.ood.gaussians.fit_gaussians.
        shrinkage: of S towards a multiple of the identity, 0..1.
        ridge: added to the diagonal of S.

    Raises:
        ParameterError: an option is out of range.
        DataError: S has no inverse, arrays do not fit, or a number is not finite.
    """
    fitted, white = _fit(features, bank, labels, weights, shrinkage, ridge)
    centres = (fitted.means - fitted.mean) @ white  # shifted by the mean of all, so that large means cost no digits
    lengths = np.einsum("kd,kd->k", centres, centres)
    found = []
    for _, block in blocks(features, "the features", size=BLOCK):
        around = (block - fitted.mean) @ white
        found.append((2 * around @ centres.T - lengths).max(axis=1) - np.einsum("nd,nd->n", around, around))
    return np.concatenate(found)


@score("relative_mahalanobis", source="Ren et al. 2021, arXiv 2106.09022")
def relative_mahalanobis(
    features: Rows,
    bank: Rows,
    labels: NDArray[np.int64],
    *,
    weights: str = "equal",
    shrinkage: float = 0.0,
    ridge: float = 0.0,
) -> Floats:
    """Return -min_c [d_c(x) - d_0(x)] [N]: d_c as for `mahalanobis`, d_0 with mean and covariance of all images.

    Arguments and errors are those of `mahalanobis`; both covariances are shrunk alike.
    """
    return _differences(features, bank, labels, weights, shrinkage, ridge, beside=False)[1]


def both_mahalanobis(
    features: Rows,
    bank: Rows,
    labels: NDArray[np.int64],
    *,
    weights: str = "equal",
    shrinkage: float = 0.0,
    ridge: float = 0.0,
) -> tuple[Floats, Floats]:
    """Return `mahalanobis` and `relative_mahalanobis` of one fit; arguments and errors are theirs."""
    return _differences(features, bank, labels, weights, shrinkage, ridge, beside=True)


def _differences(
    features: Rows,
    bank: Rows,
    labels: NDArray[np.int64],
    weights: str,
    shrinkage: float,
    ridge: float,
    *,
    beside: bool,
) -> tuple[Floats, Floats]:
    """Return both distances' scores, the first only if it is asked for `beside` the second.

    In coordinates y = (x - m) Y that make S the identity and S_0 diagonal, V, both distances are sums over dimensions:
    d_c - d_0 is that of y^2 (1 - 1 / V) - 2 y c + c^2. Where V is 1 and the centres c are 0, which without shrinkage
    they are in all dimensions but one fewer than there are classes (S_0 is then S and what lies between classes), no
    term is left, and none is computed. So nothing large is taken from anything large.
    """
    fitted, white = _fit(features, bank, labels, weights, shrinkage, ridge)
    everywhere = fit_background(bank, fitted.mean, weights=weights) if fitted.background is None else fitted.background
    values, turn = np.linalg.eigh(white.T @ shrunk(everywhere, shrinkage=shrinkage, ridge=ridge) @ white)
    axes = white @ turn
    centres = (fitted.means - fitted.mean) @ axes
    told = np.maximum(abs(1 - 1 / values), abs(centres).max(axis=0)) > NONE
    axes, rest, excess, centres = axes[:, told], axes[:, ~told], (1 - 1 / values)[told], centres[:, told]
    lengths = np.einsum("kd,kd->k", centres, centres)
    found, relative = [], []
    for _, block in blocks(features, "the features", size=BLOCK):
        around = block - fitted.mean
        y = around @ axes
        nearest, squares = (2 * y @ centres.T - lengths).max(axis=1), y**2
        relative.append(nearest - squares @ excess)
        if beside:
            found.append(nearest - squares.sum(axis=1) - ((around @ rest) ** 2).sum(axis=1))
    return np.concatenate(found or [[]]), np.concatenate(relative)


def _fit(
    features: Rows, bank: Rows, labels: NDArray[np.int64], weights: str, shrinkage: float, ridge: float
) -> tuple[Gaussians, Floats]:
    """Fit Gaussians, and return them with W [D, D], W W' the inverse of their covariance."""
    (_, width), (_, other) = shape_of(features, "the features"), shape_of(bank, "the bank's features")
    if width != other:
        raise DataError(f"the features have {width} dimensions, the bank's {other}: give them of one encoder")
    fitted = fit_gaussians(bank, labels, weights=weights)
    return fitted, whitening(fitted.covariance, shrinkage=shrinkage, ridge=ridge)
