"""Pruning of a head's directions: what accuracy is left where only the most important ones are kept.

    W_p = sum_{i kept} s_i u_i v_i^T + bias         equivalently h is projected onto the span of the v_i that are kept

Of R directions floor(p R / 100) are pruned at p per cent, those of the least value first; of equal values the one that
stands further back, that of the smaller singular value. The bias is kept.

Activations are projected once, and terms are added from the directions kept longest on, so that all shares together
cost what one head does.

Shapes: C classes, D components, R directions, N images, P shares pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from domix.evaluate.zeroshot import rank_right
from domix.ood.blocks import Array, Floats, Ints, blocks, check_labels
from domix.runtime.errors import DataError, ParameterError
from domix.signature.directions import HeadDirections, check_width

PERCENT = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)
BLOCK = 1024  # images at a time, whose scores fit into a processor's cache


def kept_count(directions: int, percent: float) -> int:
    """Return how many of the directions are left where floor(percent of them) are pruned.

    Raises:
        ParameterError: the share is none from 0 to 100.
    """
    if not 0 <= percent <= 100:
        raise ParameterError(f"{percent:g} % cannot be pruned: give shares from 0 to 100", argument="percent")
    return directions - int(Fraction(str(percent)) * directions // 100)


def pruning_order(values: ArrayLike) -> Ints:
    """Return the directions from the one pruned first, of the least value [R], to the one kept longest."""
    known = np.asarray(values, dtype=np.float64)
    return np.lexsort((-np.arange(len(known)), known))


def pruned_head(directions: HeadDirections, kept: Ints) -> Floats:
    """Return the head [C, D] of the directions that are kept."""
    return (directions.left[:, kept] * directions.singular_values[kept]) @ directions.right[kept]


def correct_when_pruned(
    directions: HeadDirections,
    activations: Array,
    labels: Array,
    order: Ints,
    percent: Sequence[float] = PERCENT,
    *,
    bias: Array | None = None,
) -> NDArray[np.bool_]:
    """Tell which images are given their own class by the head pruned to each share: [P, N].

    An image is right where its class scores higher than every other: ties go against it.

    Args:
        directions: of the head.
        activations: [N, D].
        labels: classes of the images [N], rows of the head.
        order: of the directions, the one that is pruned first in front.
        percent: the shares pruned, in any order.
        bias: of the head's classes [C]; None: it has none.

    Raises:
        DataError: widths, numbers of images or labels do not fit, or a value is not finite.
        ParameterError: a share is none from 0 to 100.
    """
    count = check_width(directions, activations)
    classes, total = directions.left.shape
    known = check_labels(labels, count, "labels")
    if known.max() >= classes:
        raise DataError(f"there is a label {known.max()}, but the head has {classes} classes: number them from 0")
    if sorted(np.asarray(order).tolist()) != list(range(total)):
        raise DataError(f"the order of pruning must name each of the {total} directions once")
    kept = [kept_count(total, share) for share in percent]
    start = np.zeros(classes) if bias is None else np.asarray(bias, dtype=np.float64)
    weights = (directions.left * directions.singular_values).T  # [R, C]
    correct = np.zeros((len(kept), count), dtype=np.bool_)
    for first, block in blocks(activations, "activations", size=BLOCK):
        part, projected, done = slice(first, first + len(block)), block @ directions.right.T, 0
        scores: Array = np.tile(start, (len(block), 1))
        for place in np.argsort(kept, kind="stable"):
            added = order[total - kept[place] : total - done]
            scores += projected[:, added] @ weights[added]
            correct[place, part] = rank_right(scores.copy(), known[part, None])[1] == 1
            done = kept[place]
    return correct
