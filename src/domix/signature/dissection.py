"""Network dissection: how well the regions of images where a unit fires are those of a concept (Bau et al. 2017).

    T_u            the level that a share of 0.005 of the unit's activations exceeds, over all positions and images
    M_u(n)         where the unit's map of image n, up-sampled bilinearly to the masks' size, exceeds T_u
    L_c(n)         where image n shows concept c
    IoU[u, c]      sum_n |M_u(n) and L_c(n)| / sum_n |M_u(n) or L_c(n)|,   n: images annotated for the category of c

A unit detects the concept of its greatest IoU, if that exceeds 0.04. "Exceeds" is strict, as in the authors' own light
code: ReLU's zeros then belong to no region of a unit that seldom fires. Up-sampling has pixel centres at half numbers
and repeats the border (as torch's bilinear interpolation without aligned corners has it).

Images come one by one; of each, units that nowhere exceed their threshold are passed over, and only the concepts that
it shows are counted, all at once.

Shapes: N images, U units, h x w positions of a map, H x W pixels of a mask, C concepts, K categories, P concepts that
an image shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Ints
from domix.runtime.errors import DataError

Bools = NDArray[np.bool_]
SHARE = 0.005  # of a unit's activations, that exceed its threshold
DETECTED = 0.04  # IoU that a detector exceeds
UNITS = 128  # whose maps are up-sampled at a time


@dataclass(frozen=True)
class Detectors:
    """What the units detect.

    Attributes:
        concept: of the greatest IoU of each unit [U], of equal ones the first.
        iou: that IoU [U].
        detects: whether the unit is a detector of it [U].
    """

    concept: Ints
    iou: Floats
    detects: Bools

    @property
    def unique(self) -> Ints:
        """The concepts that some unit detects, rising."""
        return np.unique(self.concept[self.detects])


class Dissection:
    """Sums the overlap of units with concepts over images, which are given one by one."""

    def __init__(self, thresholds: Array, category: Ints, categories: int) -> None:
        """Begin with units of some thresholds [U] and concepts of some categories [C], numbered from 0.

        Raises:
            DataError: a threshold is not finite, or a concept is of no category.
        """
        self.thresholds = np.asarray(thresholds, dtype=np.float32)
        self.category = np.asarray(category, dtype=np.int64)
        if self.thresholds.ndim != 1 or not np.isfinite(self.thresholds).all():
            raise DataError("the thresholds of units must be finite numbers, one a unit")
        if not len(self.category) or self.category.min() < 0 or self.category.max() >= categories:
            raise DataError(f"each concept must be of one of {categories} categories, numbered from 0")
        units, concepts = len(self.thresholds), len(self.category)
        self._both, self._shown = np.zeros((units, concepts), np.int64), np.zeros(concepts, np.int64)
        self._fired = np.zeros((units, categories), np.int64)

    def update(self, maps: Array, concepts: Ints, masks: Bools, annotated: Bools) -> None:
        """Take in an image.

        Args:
            maps: of all units [U, h, w].
            concepts: numbers of those that it shows [P], each once.
            masks: where it shows them [P, H, W]; of an image that shows none, empty.
            annotated: for which categories it was annotated [K].

        Raises:
            DataError: shapes do not fit, an activation is not finite, or it shows what it was not annotated for.
        """
        given, known = np.asarray(maps, dtype=np.float32), np.asarray(annotated, dtype=np.bool_)
        if given.ndim != 3 or len(given) != len(self.thresholds):
            raise DataError(f"maps are of shape {given.shape}: give [{len(self.thresholds)}, height, width]")
        if not np.isfinite(given).all():
            raise DataError("a unit's map is not finite: mend the model, or leave the image out")
        if masks.ndim != 3 or len(masks) != len(concepts) or known.shape != self._fired.shape[1:]:
            raise DataError(
                f"masks are of shape {masks.shape} and annotations of {known.shape}, for {len(concepts)} concepts and"
                f" {self._fired.shape[1]} categories: give a mask a concept"
            )
        if not known[self.category[concepts]].all():
            raise DataError("an image shows a concept of a category that it was not annotated for: annotate it")
        regions = masks.reshape(len(masks), masks.shape[1] * masks.shape[2])
        self._shown[concepts] += regions.sum(axis=1)
        firing = np.flatnonzero(given.max(axis=(1, 2)) > self.thresholds)
        for start in range(0, len(firing), UNITS):
            some = firing[start : start + UNITS]
            fired = upsampled(given[some], masks.shape[1:]) > self.thresholds[some, None, None]
            flat = fired.reshape(len(some), -1)
            self._fired[some] += np.where(known, flat.sum(axis=1)[:, None], 0)
            if len(concepts):
                # sums of ones below 2^24 are exact in single precision
                both = flat.astype(np.float32) @ regions.T.astype(np.float32)
                self._both[np.ix_(some, concepts)] += both.astype(np.int64)

    def iou(self) -> Floats:
        """Return the IoU [U, C] of the images so far; 0 where neither unit nor concept has any pixel."""
        either = self._fired[:, self.category] + self._shown - self._both
        return np.divide(self._both, either, out=np.zeros(self._both.shape), where=either > 0)


def activation_thresholds(maps: Array, share: float = SHARE) -> Floats:
    """Return the level [U] that a `share` of each unit's activations exceeds, of maps [N, U, h, w].

    Quantiles are exact, interpolated linearly. Of a store of activations they are
    `store.quantiles(site, [1 - share])[0]`.

    Raises:
        DataError: the maps have another number of axes, or none.
    """
    values = np.asarray(maps)
    if values.ndim != 4 or not values.size:
        raise DataError(f"maps are of shape {values.shape}: give [images, units, height, width]")
    return np.quantile(np.moveaxis(values, 1, 0).reshape(values.shape[1], -1).astype(np.float64), 1 - share, axis=1)


def concept_iou(
    maps: Array,
    masks: Bools,
    thresholds: Array | None = None,
    *,
    category: Ints | None = None,
    annotated: Bools | None = None,
) -> Floats:
    """Return the IoU [U, C] of maps [N, U, h, w] and masks [N, C, H, W]; for much data there is `Dissection`.

    Args:
        maps: of all images.
        masks: where each image shows each concept.
        thresholds: of the units [U]; None: `activation_thresholds`.
        category: of each concept [C], a column of `annotated`; without it all images count for every concept.
        annotated: for which categories the images were annotated [N, K].

    Raises:
        DataError: shapes do not fit, or a number is not finite.
    """
    if np.ndim(maps) != 4 or np.ndim(masks) != 4 or len(maps) != len(masks):
        raise DataError(f"maps are of shape {np.shape(maps)}, masks of {np.shape(masks)}: give both of the same images")
    known = np.ones((len(masks), 1), np.bool_) if annotated is None else annotated
    places = np.zeros(masks.shape[1], np.int64) if category is None else category
    found = Dissection(activation_thresholds(maps) if thresholds is None else thresholds, places, known.shape[1])
    for of_units, of_concepts, told in zip(maps, masks, known, strict=True):
        shown = np.flatnonzero(of_concepts.any(axis=(1, 2)))
        found.update(of_units, shown, of_concepts[shown], told)
    return found.iou()


def detectors(iou: Array, threshold: float = DETECTED) -> Detectors:
    """Return the concept that each unit detects best, from IoU [U, C], and whether that exceeds the threshold."""
    best = np.asarray(iou).argmax(axis=1)
    value = np.asarray(iou)[np.arange(len(best)), best]
    return Detectors(best, value, value > threshold)


def upsampled(maps: Array, size: Iterable[int]) -> NDArray[np.float32]:
    """Return maps [U, h, w] up-sampled bilinearly to a size (H, W): float32 [U, H, W]."""
    height, width = size
    down, across = _weights(maps.shape[1], height), _weights(maps.shape[2], width)
    return down @ np.asarray(maps, dtype=np.float32) @ across.T


@lru_cache(maxsize=64)
def _weights(positions: int, pixels: int) -> NDArray[np.float32]:
    """Return how much each position says of each pixel [pixels, positions]: two at most, the nearest."""
    at = np.clip((np.arange(pixels) + 0.5) * positions / pixels - 0.5, 0, positions - 1)
    low = np.floor(at).astype(np.int64)
    high, share = np.minimum(low + 1, positions - 1), at - low
    found = np.zeros((pixels, positions))
    np.add.at(found, (np.arange(pixels), low), 1 - share)
    np.add.at(found, (np.arange(pixels), high), share)
    return found.astype(np.float32)
