"""Predictions and ranks from scores that come a block at a time, whatever model gave them.

Shapes: N images, K classes, B images of one block, T classes of a subset.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domix.evaluate.zeroshot import rank_right

Ints = NDArray[np.int64]
Places = NDArray[np.int32]  # half the memory: many checkpoints of many images are held at once


@dataclass(frozen=True)
class Ranks:
    """What scores say of N images: int32 [N] each.

    `predicted` is the class of the highest score, `rank` the place of the true class among all, 1 for the highest, and
    `rank_among` its place among some classes, 0 for images of others. Ties go against the true class, as in
    domix.evaluate.zeroshot.rank_right.
    """

    predicted: Places
    rank: Places
    rank_among: Places


def rank_blocks(blocks: Iterable[NDArray[np.float32]], label: Ints, among: Ints) -> Ranks:
    """Rank the true classes `label` [N] by scores [B, K], finite and in the order of the labels.

    Args:
        blocks: which are overwritten.
        among: the classes [T] of `rank_among`, rising.
    """
    ranks = Ranks(*(np.zeros(len(label), dtype=np.int32) for _ in range(3)))
    start = 0
    for scores_BK in blocks:
        part = slice(start, start + len(scores_BK))
        truth_B1 = label[part][:, None]
        inside_B = np.isin(truth_B1[:, 0], among)
        if inside_B.any():
            places_B1 = np.searchsorted(among, truth_B1[inside_B])
            ranks.rank_among[part][inside_B] = rank_right(scores_BK[np.ix_(inside_B, among)], places_B1)[1]
        ranks.predicted[part], ranks.rank[part] = rank_right(scores_BK, truth_B1)
        start += len(scores_BK)
    return ranks
