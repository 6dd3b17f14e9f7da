"""Kurtosis over the components of each image's activation, which tells outlier features (Elhage et al. 2023).

    mu_n = mean_i h_ni,   s2_n = mean_i (h_ni - mu_n)^2,   Kurt_n = mean_i ((h_ni - mu_n) / s_n)^4

with population moments and without the 3 of a normal distribution taken off: 3 is what a space without preferred axes
gives, far above 3 a few components stand out. 1 <= Kurt_n <= D - 2 + 1 / (D - 1), the last for one component alone.
Activations are neither centred nor whitened over images first: that would take the effect away.

Shapes: N images, D components.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from domix.ood.blocks import Floats, Rows, blocks
from domix.runtime.errors import DataError

BLOCK = 512  # images at a time, which fit into a processor's cache
ALIKE = 1e-12  # values that differ by less than this share of their mean are equal, but for rounding


@dataclass(frozen=True)
class KurtosisSummary:
    """Kurtosis over images: mean, median, and the mean's standard error (of the sample; NaN for a single image)."""

    mean: float
    median: float
    standard_error: float
    images: int


def activation_kurtosis(activations: Rows) -> Floats:
    """Return the kurtosis [N] over the components of each image's activation [N, D]; shards may be given one by one.

    Raises:
        DataError: there are no images, a value is not finite, or all components of an image are equal.
    """
    return np.concatenate([_kurtosis(block, first) for first, block in blocks(activations, "activations", size=BLOCK)])


def differing(activations: Rows) -> NDArray[np.bool_]:
    """Tell of each image's activation [N, D] whether its components differ: it has a kurtosis [N].

    Raises:
        DataError: there are no images, or a value is not finite.
    """
    return np.concatenate(
        [~_equal(*_moments(block)[1:]) for _, block in blocks(activations, "activations", size=BLOCK)]
    )


def summarise(kurtosis: ArrayLike) -> KurtosisSummary:
    """Return mean, median and standard error of the kurtosis of images [N]."""
    values = np.asarray(kurtosis, dtype=np.float64)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return KurtosisSummary(float(values.mean()), float(np.median(values)), float(error), len(values))


def _kurtosis(block: NDArray[np.float64], first: int) -> Floats:
    squares, mean, variance = _moments(block)
    if (equal := _equal(mean, variance)).any():
        image = first + int(equal.argmax())
        raise DataError(
            f"all components of the activation of image {image} are equal, so that it has no kurtosis: leave it out, or"
            " look for a site or a training that is dead"
        )
    return np.einsum("ij,ij->i", squares, squares) / block.shape[1] / variance**2


def _moments(block: NDArray[np.float64]) -> tuple[Floats, Floats, Floats]:
    """Return squared deviations [N, D], means [N] and variances [N]."""
    mean = block.mean(axis=1, keepdims=True)
    squares = (block - mean) ** 2
    return squares, mean[:, 0], squares.mean(axis=1)


def _equal(mean: Floats, variance: Floats) -> NDArray[np.bool_]:
    return variance <= (ALIKE * mean) ** 2
