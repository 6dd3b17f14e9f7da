"""Zero-shot classification: the rank of the right class among scores, whatever model gave them, and of embeddings.

Shapes: N images, D embedding width, K classes, B images of one block, A right classes at most.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.runtime.arrays import BLOCK


def rank_right(scores: NDArray[np.float32], right: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find what a block of scores [B, K] says, and where its right answers stand; the scores are overwritten.

    Args:
        scores: which must not be NaN; an image whose right scores are NaN is given the last place.
        right: the right classes [B, A] of each image, mostly one; fewer are filled up by repetition.

    Returns:
        `predicted` int64 [B], the class of the highest score, and `rank` int64 [B], the place of the best right class
        among those that are wrong, 1 for the highest. Ties go against the right classes: the best of them stands behind
        every wrong class of equal score, so that a model that says the same of everything gets nothing right; the
        prediction is right just where the rank is 1.
    """
    right_scores = np.take_along_axis(scores, right, axis=1)
    best = np.take_along_axis(right, right_scores.argmax(axis=1)[:, None], axis=1)[:, 0]
    best_score = right_scores.max(axis=1, keepdims=True)
    np.put_along_axis(scores, right, -np.inf, axis=1)  # what is left are the wrong ones
    rank = 1 + (scores >= best_score).sum(axis=1)
    rank[np.isnan(best_score[:, 0])] = scores.shape[1]
    return np.where(rank == 1, best, scores.argmax(axis=1)), rank


def rank_true(
    image: NDArray[np.float32], text: NDArray[np.float32], label: NDArray[np.int64], *, block: int = BLOCK
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Score images [N, D] against class prototypes [K, D] by dot product.

    Returns:
        `predicted` int64 [N], the class of the highest score, and `rank` int64 [N], the place of the true class `label`
        among all K, as `rank_right` has them.
    """
    predicted, rank = np.empty(len(image), dtype=np.int64), np.empty(len(image), dtype=np.int64)
    for start in range(0, len(image), block):
        part = slice(start, start + block)
        predicted[part], rank[part] = rank_right(image[part] @ text.T, label[part][:, None])
    return predicted, rank
