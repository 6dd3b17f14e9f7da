"""Scores of Gaussians that are fitted on ID training images.

Shapes: N images, M of the bank, K classes, D dimensions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Floats, Rows, blocks, shape_of
from domix.ood.gaussians import fit_background, fit_gaussians, whitening
from domix.ood.scores.registry import score
from domix.runtime.errors import DataError


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
    _check_widths(features, bank)
    fitted = fit_gaussians(bank, labels, weights=weights)
    white = whitening(fitted.covariance, shrinkage=shrinkage, ridge=ridge)
    return _least_distances(features, fitted.mean, fitted.means, white, None)


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
    _check_widths(features, bank)
    fitted = fit_gaussians(bank, labels, weights=weights)
    white = whitening(fitted.covariance, shrinkage=shrinkage, ridge=ridge)
    everywhere = fit_background(bank, fitted.mean, weights=weights)
    background = whitening(everywhere, shrinkage=shrinkage, ridge=ridge)
    return _least_distances(features, fitted.mean, fitted.means, white, background)


def _check_widths(features: Rows, bank: Rows) -> None:
    (_, width), (_, other) = shape_of(features, "the features"), shape_of(bank, "the bank's features")
    if width != other:
        raise DataError(f"the features have {width} dimensions, the bank's {other}: give them of one encoder")


def _least_distances(features: Rows, mean: Floats, means: Floats, white: Floats, background: Floats | None) -> Floats:
    """Return -min_c |(x - m_c) W|^2 + |(x - m_0) B|^2, from one product with W, and one with the whitened means."""
    centres = (means - mean) @ white  # shifted by the mean of all, so that large means cost no digits
    lengths = np.einsum("kd,kd->k", centres, centres)
    found = []
    for _, block in blocks(features, "the features", size=2048):
        around = block - mean
        here = around @ white
        apart = np.einsum("nd,nd->n", here, here) + (lengths - 2 * here @ centres.T).min(axis=1)
        if background is not None:
            beyond = around @ background
            apart -= np.einsum("nd,nd->n", beyond, beyond)
        found.append(-apart)
    return np.concatenate(found)
