"""Scores from a vector a class, such as the text embeddings of class names; features and vectors are normalised here.

Shapes: N images, C classes, V words, D dimensions.
"""

from __future__ import annotations

import numpy as np

from domix.ood.blocks import Array, Floats, blocks, shape_of, unit
from domix.ood.scores.logits import msp
from domix.ood.scores.registry import score
from domix.runtime.errors import DataError


def cosines(features: Array, prototypes: Array) -> Floats:
    """Return the cosines of images with vectors [N, C].

    Raises:
        DataError: their widths differ, or a number is not finite.
    """
    _, width = shape_of(features, "the features")
    _, other = shape_of(prototypes, "the prototypes")
    if width != other:
        raise DataError(f"the features have {width} dimensions, the prototypes {other}: give them of one space")
    vectors = np.concatenate([unit(block) for _, block in blocks(prototypes, "the prototypes")])
    return np.concatenate([unit(block) @ vectors.T for _, block in blocks(features, "the features")])


@score("mcm", source="Ming et al. 2022, arXiv 2211.13445")
def mcm(features: Array, prototypes: Array, *, temperature: float = 1.0) -> Floats:
    """Return max_c softmax(cos / T)_c [N]: maximum concept matching, also called pseudo-MSP."""
    return msp(cosines(features, prototypes), temperature=temperature)


@score("max_cosine", source="Ming et al. 2022, arXiv 2211.13445 (MCM without softmax)")
def max_cosine(features: Array, prototypes: Array) -> Floats:
    """Return max_c cos [N]."""
    return cosines(features, prototypes).max(axis=1)
