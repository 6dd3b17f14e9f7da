"""Which concepts a layer encodes, how many a unit encodes, and which concepts models have in common.

Unit i encodes concept c if its average precision AP[i, c] (see `concept_ap`) is at least a threshold tau. No tau is
certain, so that all is given over a curve of them.

    unique concepts   |{c : some unit encodes c}|
    polysemanticity   mean over the units that encode any of |{c : the unit encodes c}|

Shapes: N images, U units, C concepts, K categories, T thresholds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from domix.ood.blocks import Floats, Ints
from domix.runtime.errors import DataError
from domix.signature.average_precision import concept_ap

THRESHOLDS = np.linspace(500, 1000, 501) / 1000  # 0.5 to 1, as exact as decimals get


@dataclass(frozen=True)
class ConceptSet:
    """Images and the concepts that they show.

    Attributes:
        names: of the concepts [C]; two of different categories may share one.
        category: of each concept [C], its place in `categories`.
        categories: their names [K].
        shown: which images show which concept, bool [N, C].
        annotated: for which categories each image was annotated, bool [N, K].
    """

    names: tuple[str, ...]
    category: Ints
    categories: tuple[str, ...]
    shown: NDArray[np.bool_]
    annotated: NDArray[np.bool_]

    @property
    def images(self) -> Ints:
        """How many images show each concept [C]."""
        return self.shown.sum(axis=0)

    def candidates(self, negatives: str) -> Ints:
        """Return among how many images each concept is sought [C]: `category`: the annotated ones, `all`: every one."""
        if negatives == "all":
            return np.full(len(self.names), len(self.shown))
        return self.annotated.sum(axis=0)[self.category]

    def usable(self, negatives: str, least: int = 1) -> ConceptSet:
        """Return the concepts that `least` images show and some do not: of others every ranking is as good.

        Raises:
            DataError: none is left.
        """
        keep = (self.images >= max(1, least)) & (self.images < self.candidates(negatives))
        if not keep.any():
            raise DataError(
                f"none of {len(self.names)} concepts is shown by {max(1, least)} images or more, and not by all: give"
                " more images, or ask for fewer"
            )
        names = tuple(name for name, kept in zip(self.names, keep, strict=True) if kept)
        return replace(self, names=names, category=self.category[keep], shown=self.shown[:, keep])

    def ap(self, activations: NDArray[np.floating], negatives: str) -> Floats:
        """Return `concept_ap` [U, C] of activations [N, U] of the images; `negatives`: see `candidates`.

        Raises:
            DataError: as `concept_ap`.
        """
        if negatives == "all":
            return concept_ap(activations, self.shown)
        return concept_ap(activations, self.shown, category=self.category, annotated=self.annotated)


@dataclass(frozen=True)
class ConceptCurve:
    """Numbers over thresholds [T].

    Attributes:
        thresholds: of the average precision.
        unique: concepts that some unit encodes.
        units: units that encode any concept.
        polysemanticity: concepts a unit, mean over these units; NaN where there are none.
    """

    thresholds: Floats
    unique: Ints
    units: Ints
    polysemanticity: Floats


def concept_curve(ap: ArrayLike, thresholds: ArrayLike = THRESHOLDS) -> ConceptCurve:
    """Return unique concepts and polysemanticity of AP [U, C] at every threshold."""
    known, asked = np.asarray(ap, dtype=np.float64), np.asarray(thresholds, dtype=np.float64)
    unique, units, pairs = (_reaching(v, asked) for v in (known.max(axis=0), known.max(axis=1), known.ravel()))
    mean = np.divide(pairs, units, out=np.full(len(asked), np.nan), where=units > 0)
    return ConceptCurve(asked, unique, units, mean)


def unique_concepts(ap: ArrayLike, threshold: float) -> Ints:
    """Return the concepts that some unit encodes, rising, from AP [U, C]."""
    return np.flatnonzero(np.asarray(ap).max(axis=0) >= threshold)


def concepts_per_unit(ap: ArrayLike, threshold: float) -> Ints:
    """Return how many concepts each unit encodes [U], from AP [U, C]: the distribution behind polysemanticity."""
    return (np.asarray(ap) >= threshold).sum(axis=1)


def polysemanticity(ap: ArrayLike, threshold: float) -> float:
    """Return how many concepts a unit encodes, mean over the units that encode any; NaN where none does."""
    counts = concepts_per_unit(ap, threshold)
    return float(counts[counts > 0].mean()) if counts.any() else float("nan")


def venn_counts(groups: Mapping[str, Collection[str]]) -> dict[tuple[str, ...], int]:
    """Return how many concepts are in exactly these groups and no others, for every combination that has any."""
    sets = {name: set(concepts) for name, concepts in groups.items()}
    found: dict[tuple[str, ...], int] = {}
    for concept in set().union(*sets.values()):
        holding = tuple(name for name, concepts in sets.items() if concept in concepts)
        found[holding] = found.get(holding, 0) + 1
    order = [name for size in range(1, len(sets) + 1) for name in combinations(sets, size)]
    return {holding: found[holding] for holding in order if holding in found}


def jaccard(one: Collection[str], other: Collection[str]) -> float:
    """Return the share of the concepts of either group that both have; NaN where neither has any."""
    either = set(one) | set(other)
    return len(set(one) & set(other)) / len(either) if either else float("nan")


def _reaching(values: Floats, thresholds: Floats) -> Ints:
    """Return how many values are at least each threshold [T]."""
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="left")
