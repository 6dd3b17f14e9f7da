"""Zero-shot classification of cached embeddings.

Shapes: N pictures, D embedding width, K classes, B pictures of one block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096  # pictures whose K scores are in memory at once


def rank_true(
    image: NDArray[np.float32], text: NDArray[np.float32], label: NDArray[np.int64], *, block: int = BLOCK
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Score pictures [N, D] against class prototypes [K, D] by dot product.

    Returns:
        `predicted` int64 [N], the class of the highest score, and `rank` int64 [N], the place of the true class `label`
        among all K, 1 for the highest. Ties go against the true class: it stands behind every class of equal score, so
        that a model that says the same of everything gets nothing right; `predicted == label` just where `rank == 1`.
    """
    predicted, rank = np.empty(len(image), dtype=np.int64), np.empty(len(image), dtype=np.int64)
    for start in range(0, len(image), block):
        part = slice(start, start + block)
        scores_BK, truth_B = image[part] @ text.T, label[part]
        own_B = np.arange(len(truth_B))
        true_B1 = scores_BK[own_B, truth_B][:, None]
        rank[part] = (scores_BK >= true_B1).sum(axis=1)
        scores_BK[own_B, truth_B] = -np.inf
        predicted[part] = np.where(rank[part] == 1, truth_B, scores_BK.argmax(axis=1))
    return predicted, rank
