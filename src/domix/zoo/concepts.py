"""Concepts in the table of a zoo: how many a model's units encode, and which of them models and groups share.

A unit encodes a concept if its average precision (AP) reaches a threshold: domix.signature.concepts.

Shapes: U units, C concepts, M models, G groups.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from domix.analyses.concepts.section import encoded
from domix.runtime.wording import listed
from domix.signature.concepts import concepts_per_unit, jaccard, polysemanticity, unique_concepts, venn_counts


@dataclass(frozen=True)
class Encoded:
    """Which concepts the models encode.

    Attributes:
        images: name of the set whose concepts are sought.
        threshold: of the average precision.
        best: `model, concept, category, shown, images, ap, unit`: the best unit of every concept.
        curve: `model, threshold, unique, units, polysemanticity`.
        overlaps: of models [M, M] and of groups [G, G], by what is compared: `overlap_matrix`.
        shared: `groups, concepts`: how many concepts these groups encode, and no others.
    """

    images: str
    threshold: float
    best: pd.DataFrame
    curve: pd.DataFrame
    overlaps: Mapping[str, pd.DataFrame]
    shared: pd.DataFrame


def concept_numbers(ap: ArrayLike, threshold: float) -> dict[str, float]:
    """Return the numbers of a model from AP [U, C].

    Returns:
        `unique`: concepts that some unit encodes; `polysemanticity`: concepts a unit, mean over those that encode any,
        NaN where none does; `units`: how many these are; `ap`: of a concept's best unit, mean over concepts.
    """
    values = np.asarray(ap, dtype=np.float64)
    return {
        "unique": len(unique_concepts(values, threshold)),
        "polysemanticity": polysemanticity(values, threshold),
        "units": int((concepts_per_unit(values, threshold) > 0).sum()),
        "ap": float(values.max(axis=0).mean()),
    }


def overlap_matrix(concepts: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """Return the share of the concepts of either of two that both encode (Jaccard); NaN where neither encodes any."""
    names = list(concepts)
    found = [[jaccard(concepts[one], concepts[other]) for other in names] for one in names]
    return pd.DataFrame(found, index=names, columns=names, dtype=np.float64)


def encode_table(
    images: str, threshold: float, best: pd.DataFrame, curve: pd.DataFrame, groups: Mapping[str, str]
) -> Encoded:
    """Tell which concepts models and groups encode; a group those that its models' mean AP reaches the threshold for.

    Args:
        images: name of the set.
        threshold: of the average precision.
        best: of every model, as of `Encoded`.
        curve: likewise.
        groups: of the models.
    """
    by_group = best.assign(mixture=best["model"].map(groups))
    sets = {
        "models": encoded(best.rename(columns={"model": "mixture"}), threshold),
        "groups": encoded(by_group, threshold),
    }
    counts = venn_counts(sets["groups"])
    shared = pd.DataFrame({"groups": [listed(names) for names in counts], "concepts": list(counts.values())})
    overlaps = {what: overlap_matrix(found) for what, found in sets.items()}
    return Encoded(images, threshold, best, curve, overlaps, shared)
