"""Scores from a vector a class, such as the text embeddings of class names; features and vectors are normalised here.

Shapes: N images, C classes, V words, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Rows, blocks, shape_of, unit
from domix.ood.scores.logits import check_positive, energy, msp
from domix.ood.scores.registry import score
from domix.runtime.errors import DataError, ParameterError


def cosines(features: Rows, prototypes: Array) -> Iterator[Floats]:
    """Yield the cosines of blocks of images with vectors [n, C].

    Raises:
        DataError: their widths differ, or a number is not finite.
    """
    _, width = shape_of(features, "the features")
    _, other = shape_of(prototypes, "the prototypes")
    if width != other:
        raise DataError(f"the features have {width} dimensions, the prototypes {other}: give them of one space")
    vectors = np.concatenate([unit(block) for _, block in blocks(prototypes, "the prototypes")])
    for _, block in blocks(features, "the features", size=1024):
        yield unit(block) @ vectors.T


@score("mcm", source="Ming et al. 2022, arXiv 2211.13445")
def mcm(features: Rows, prototypes: Array, *, temperature: float = 1.0) -> Floats:
    """Return max_c softmax(cos / T)_c [N]: maximum concept matching, also called pseudo-MSP.

    Raises:
        ParameterError: T is not above 0.
        DataError: arrays do not fit, or a number is not finite.
    """
    return np.concatenate([msp(block, temperature=temperature) for block in cosines(features, prototypes)])


@score("max_cosine", source="Ming et al. 2022, arXiv 2211.13445 (MCM without softmax)")
def max_cosine(features: Rows, prototypes: Array) -> Floats:
    """Return max_c cos [N].

    Raises:
        DataError: arrays do not fit, or a number is not finite.
    """
    return np.concatenate([block.max(axis=1) for block in cosines(features, prototypes)])


@score("neglabel", source="Jiang et al. 2024, arXiv 2403.20078")
def neglabel(
    features: Rows, prototypes: Array, negatives: Array, *, temperature: float = 0.01, groups: int = 1
) -> Floats:
    """Return the share of softmax(cos / T) over classes and foreign words that lies on the classes [N].

    Args:
        features: of the images.
        prototypes: text embeddings of the classes.
        negatives: text embeddings of words that name none of them: `mine_negatives`.
        temperature: T.
        groups: the words are dealt out to so many groups, in turn, and the score is the mean over groups.

    Raises:
        ParameterError: an option is out of range.
        DataError: arrays do not fit, or a number is not finite.
    """
    check_positive(temperature, "temperature")
    words, _ = shape_of(negatives, "the negative words")
    if not 1 <= groups <= words:
        raise ParameterError(f"{words} words make no {groups} groups: give 1 to {words}", argument="groups")
    found = []
    for known, foreign in zip(cosines(features, prototypes), cosines(features, negatives), strict=True):
        inside = energy(known / temperature)
        parts = [energy(foreign[:, group::groups] / temperature) for group in range(groups)]
        found.append(np.mean([np.exp(inside - np.logaddexp(inside, outside)) for outside in parts], axis=0))
    return np.concatenate(found)


def mine_negatives(words: Array, prototypes: Array, count: int, *, share: float = 0.95) -> NDArray[np.int64]:
    """Return the places of the `count` words that are farthest from the classes, farthest first [count].

    A word is as near as this share-quantile of its cosines with the classes (Jiang et al. 2024, NegMining).

    Raises:
        ParameterError: there are not so many words.
        DataError: arrays do not fit, or a number is not finite.
    """
    have, _ = shape_of(words, "the words")
    if not 1 <= count <= have:
        raise ParameterError(f"{count} words are asked for out of {have}: give 1 to {have}", argument="count")
    near = np.concatenate([np.quantile(block, share, axis=1) for block in cosines(words, prototypes)])
    return np.argsort(near, kind="stable")[:count]
