"""Predictions and ranks from scores that come a block at a time, whatever model gave them.

Shapes: N pictures, K classes, B pictures of one block, T classes of a subset.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Places = NDArray[np.int32]  # half the memory: many checkpoints of many pictures are held at once


@dataclass(frozen=True)
class Ranks:
    """What scores say of N pictures: int32 [N] each.

    `predicted` is the class of the highest score, `rank` the place of the true class among all, 1 for the highest, and
    `rank_among` its place among some classes, 0 for pictures of others. Ties go against the true class, as in
    domix.evaluate.zeroshot.rank_true.
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
        truth_B = label[part]
        own_B = np.arange(len(truth_B))
        true_B1 = scores_BK[own_B, truth_B][:, None]
        ranks.rank[part] = (scores_BK >= true_B1).sum(axis=1)
        ranks.rank_among[part] = (scores_BK[:, among] >= true_B1).sum(axis=1) * np.isin(truth_B, among)
        scores_BK[own_B, truth_B] = -np.inf
        ranks.predicted[part] = np.where(ranks.rank[part] == 1, truth_B, scores_BK.argmax(axis=1))
        start += len(scores_BK)
    return ranks
