"""DeLong's variance of AUROC, for many scores at once: a check of the bootstrap, free of draws.

DeLong, DeLong and Clarke-Pearson (1988), computed from midranks as Sun and Xu (2014, "Fast implementation of DeLong's
algorithm") do.

Shapes: S scores, P ID images, N OOD images.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from domix.ood.blocks import Array, Floats, check_scores
from domix.runtime.errors import DataError


def delong(id_scores: Array, ood_scores: Array) -> tuple[Floats, Floats]:
    """Return the AUROC of several scores of the same images [S], and their covariance [S, S].

    Args:
        id_scores: [S, P]; higher is in-distribution.
        ood_scores: [S, N].

    Raises:
        DataError: there are not as many scores of both, a set has fewer than two images, or a score is not finite.
    """
    if np.ndim(id_scores) != 2 or np.ndim(ood_scores) != 2 or len(id_scores) != len(ood_scores):
        shapes = f"{np.shape(id_scores)} and {np.shape(ood_scores)}"
        raise DataError(f"the scores are of shapes {shapes}: give one row a score for ID and OOD images alike")
    inside = np.stack([check_scores(row, "the scores of the ID images") for row in id_scores])
    outside = np.stack([check_scores(row, "the scores of the OOD images") for row in ood_scores])
    count, other = inside.shape[1], outside.shape[1]
    if min(count, other) < 2:
        raise DataError("a set has one image: a variance needs two at least")
    pooled = rankdata(np.concatenate([inside, outside], axis=1), axis=1)
    won = (pooled[:, :count] - rankdata(inside, axis=1)) / other  # share of OOD images below each ID image
    lost = 1 - (pooled[:, count:] - rankdata(outside, axis=1)) / count  # share of ID images above each OOD image
    return won.mean(axis=1), np.atleast_2d(np.cov(won)) / count + np.atleast_2d(np.cov(lost)) / other
