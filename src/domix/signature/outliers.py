"""Outlier features: the few components whose activations are far larger than the others', image after image.

Feature i is one if a_i = mean_n |h_ni| > mean_i a_i + z std_i a_i (population deviation, ddof 0), z = 6. No value of D
lies further above their mean than sqrt(D - 1) deviations, so that z = 6 can only be passed from D = 38 on: below, z is
lowered in proportion to that bound, as strict for every width as 6 is for 38 (`scaled_deviations`).

In language models another rule is used: |h_ni| >= 6 in at least 75 % of the samples (Dettmers et al. 2022). It hangs on
the scale of activations, so that it says nothing of embeddings of length 1.

Shapes: N images, D components, K outlier features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from domix.ood.blocks import Floats, Ints, Rows, blocks
from domix.runtime.errors import DataError
from domix.signature.kurtosis import ALIKE, BLOCK

DEVIATIONS = 6.0


@dataclass(frozen=True)
class OutlierFeatures:
    """The outlier features of a set of activations.

    Attributes:
        indices: of the features [K], rising.
        mean_absolute: mean_n |h_ni| of every component [D].
        threshold: that it must pass.
        norm_share: share of ||h||^2 that the features carry, mean over images.
    """

    indices: Ints
    mean_absolute: Floats
    threshold: float
    norm_share: float


def outlier_features(activations: Rows, deviations: float = DEVIATIONS) -> OutlierFeatures:
    """Find the outlier features of activations [N, D].

    Raises:
        DataError: there are no images, a value is not finite, or an activation is zero.
    """
    absolute = shares = np.zeros(1)
    count = 0
    for first, block in blocks(activations, "activations", size=BLOCK):
        squares = block**2
        norms = squares.sum(axis=1)
        if not norms.all():
            raise DataError(f"the activation of image {first + int((norms == 0).argmax())} is zero: leave it out")
        absolute, shares = absolute + abs(block).sum(axis=0), shares + (1 / norms) @ squares
        count += len(block)
    means = absolute / count
    indices, threshold = stand_out(means, deviations)
    return OutlierFeatures(indices, means, threshold, float(shares[indices].sum() / count))


def large_features(activations: Rows, magnitude: float = 6.0, share: float = 0.75) -> Ints:
    """Return the components whose absolute value is `magnitude` or more in a `share` of the images or more, rising.

    Raises:
        DataError: there are no images, or a value is not finite.
    """
    large, count = np.zeros(1), 0
    for _, block in blocks(activations, "activations", size=BLOCK):
        large, count = large + (abs(block) >= magnitude).sum(axis=0), count + len(block)
    return np.flatnonzero(large >= share * count)


def stand_out(values: ArrayLike, deviations: float = DEVIATIONS) -> tuple[Ints, float]:
    """Return which of the values [D] stand above mean + z std (ddof 0, z scaled to D), and that threshold."""
    known = np.asarray(values, dtype=np.float64)
    mean = float(known.mean())
    threshold = mean + scaled_deviations(len(known), deviations) * float(known.std())
    return np.flatnonzero(known > threshold + ALIKE * abs(mean)), threshold


def scaled_deviations(width: int, deviations: float = DEVIATIONS) -> float:
    """Return by how many deviations a feature of `width` must stand out.

    These are `deviations` from the width on at which a feature can be that far out, floor(deviations^2) + 2; below, the
    same share of the largest distance that there can be, sqrt(width - 1).
    """
    least = math.floor(deviations**2) + 2
    return deviations * min(1.0, math.sqrt((width - 1) / (least - 1)))
