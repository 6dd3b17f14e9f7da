"""The k-NN graph of images, and how well neighbours tell their class.

Shapes: N images, M of a bank, D dimensions, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Floats, Rows, check_labels, shape_of
from domix.ood.search import Nearest, nearest

BLOCK = 2048  # images whose votes are in memory at once


def knn_graph(features: Rows, k: int = 50) -> Nearest:
    """Return the k nearest other images of each image, by cosine; never the image itself.

    Raises:
        DataError: there are not k others, or a number is not finite.
    """
    return nearest(features, features, k, exclude_self=True)


@dataclass(frozen=True)
class KnnAccuracy:
    """Shares of images whose class is the first, or among the first five, by the votes of their neighbours."""

    top1: float
    top5: float


def weighted_knn_accuracy(
    features: Rows,
    labels: NDArray[np.int64],
    bank: Rows,
    bank_labels: NDArray[np.int64],
    *,
    k: int = 20,
    temperature: float = 0.02,
    exclude_self: bool = False,
) -> KnnAccuracy:
    """Classify images by the k nearest of a bank, each of which votes for its class with weight exp(cos / T).

    Of classes with equal votes the lower number comes first. A class without a vote is never among the first five.

    Raises:
        DataError: the bank is too small, arrays do not fit, or a number is not finite.
    """
    count, _ = shape_of(features, "the features")
    size, _ = shape_of(bank, "the bank's features")
    truth, known = check_labels(labels, count, "the labels"), check_labels(bank_labels, size, "the bank's labels")
    found = nearest(features, bank, k, exclude_self=exclude_self)
    classes = int(known.max()) + 1
    first = among = 0
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        cosine = found.similarity[rows]
        weight: Floats = np.exp((cosine - cosine[:, :1]) / temperature)
        cells = known[found.place[rows]] + classes * np.arange(len(cosine))[:, None]
        votes = np.bincount(cells.ravel(), weight.ravel(), minlength=len(cosine) * classes).reshape(-1, classes)
        own = truth[rows]
        mine = np.where(own < classes, votes[np.arange(len(votes)), np.minimum(own, classes - 1)], 0.0)[:, None]
        ahead = (votes > mine).sum(axis=1) + ((votes == mine) & (np.arange(classes) < own[:, None])).sum(axis=1)
        voted = mine[:, 0] > 0
        first += int((voted & (ahead < 1)).sum())
        among += int((voted & (ahead < 5)).sum())
    return KnnAccuracy(first / count, among / count)
