"""Scores of Gaussians that are fitted on ID training images.

Shapes: N images, M of the bank, K classes, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Floats, Rows, blocks, shape_of
from domix.ood.gaussians import Gaussians, fit_background, fit_gaussians, whitening
from domix.ood.scores.registry import score
from domix.runtime.errors import DataError

BLOCK = 2048  # images at a time


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
    return -_class_distances(features, bank, labels, weights, shrinkage, ridge)[1]


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
    return both_mahalanobis(features, bank, labels, weights=weights, shrinkage=shrinkage, ridge=ridge)[1]


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
    fitted, nearest = _class_distances(features, bank, labels, weights, shrinkage, ridge)
    everywhere = fit_background(bank, fitted.mean, weights=weights)
    white = whitening(everywhere, shrinkage=shrinkage, ridge=ridge)
    background = []
    for _, block in blocks(features, "the features", size=BLOCK):
        around = (block - fitted.mean) @ white
        background.append(np.einsum("nd,nd->n", around, around))
    return -nearest, np.concatenate(background) - nearest


def _class_distances(
    features: Rows, bank: Rows, labels: NDArray[np.int64], weights: str, shrinkage: float, ridge: float
) -> tuple[Gaussians, Floats]:
    """Fit Gaussians, and return them with min_c (x - m_c)' S^-1 (x - m_c) [N]."""
    (_, width), (_, other) = shape_of(features, "the features"), shape_of(bank, "the bank's features")
    if width != other:
        raise DataError(f"the features have {width} dimensions, the bank's {other}: give them of one encoder")
    fitted = fit_gaussians(bank, labels, weights=weights)
    white = whitening(fitted.covariance, shrinkage=shrinkage, ridge=ridge)
    centres = (fitted.means - fitted.mean) @ white  # shifted by the mean of all, so that large means cost no digits
    lengths = np.einsum("kd,kd->k", centres, centres)
    found = []
    for _, block in blocks(features, "the features", size=BLOCK):
        around = (block - fitted.mean) @ white
        apart = (lengths - 2 * around @ centres.T).min(axis=1)
        found.append(np.einsum("nd,nd->n", around, around) + apart)
    return fitted, np.concatenate(found)
