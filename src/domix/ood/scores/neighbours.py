"""Scores of the nearest ID training images: the mean similarity of the k nearest of a bank.

Metrics are those of Adaloglou et al. (2024), whose code has one more (MI, which depends on how the test set is cut).

Shapes: N images, M of the bank, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from domix.ood.blocks import Array, Floats, Rows, blocks, shape_of, unit
from domix.ood.scores.logits import check_positive, softmax
from domix.ood.scores.registry import score
from domix.ood.search import COSINE, Likeness, check_neighbours, likeness_blocks, nearest
from domix.runtime.errors import ParameterError

METRICS = ("cos-sim", "temp-cos-sim", "sim", "BC", "l1", "l2", "norm-l1", "norm-l2")


@score("knn", source="Adaloglou et al. 2024, arXiv 2303.05828; Sun et al. 2022, arXiv 2204.06507")
def knn(
    features: Rows,
    bank: Rows,
    *,
    k: int = 1,
    metric: str = "temp-cos-sim",
    temperature: float = 0.02,
    softmax_temperature: float = 0.1,
    exclude_self: bool = False,
) -> Floats:
    """Return the mean similarity of the k nearest images of the bank [N].

    Metrics, of images x and y: `cos-sim` exp(cos); `temp-cos-sim` exp(cos / T); `sim` p.q and `BC` sum sqrt(p q) of
    p = softmax(x / softmax_temperature), q that of y; `l1`, `l2` the negative distances; `norm-l1`, `norm-l2` those of
    x and y at length 1.

    Args:
        features: of the images.
        bank: features of ID training images.
        k: neighbours; -1: all.
        metric: one of METRICS.
        temperature: T of temp-cos-sim.
        softmax_temperature: of sim and BC.
        exclude_self: the bank is the images, in their order: none is its own neighbour.

    Raises:
        ParameterError: an option is out of range.
        DataError: the bank has fewer than k images, arrays do not fit, or a number is not finite.
    """
    if metric not in METRICS:
        raise ParameterError(f"there is no metric {metric!r}, but {', '.join(METRICS)}", argument="metric")
    check_positive(temperature, "temperature")
    check_positive(softmax_temperature, "softmax_temperature")
    size, _ = shape_of(bank, "the bank's features")
    likeness, value = _likeness(metric, bank, temperature, softmax_temperature)
    if k != -1:
        check_neighbours(k, size, exclude_self)
        return value(nearest(features, bank, k, exclude_self=exclude_self, likeness=likeness).similarity).mean(axis=1)
    check_neighbours(1, size, exclude_self)
    total = np.zeros(shape_of(features, "the features")[0])
    for first, _, queries, compared in likeness_blocks(features, bank, likeness, exclude_self=exclude_self):
        counted = ~np.isneginf(compared)
        compared = np.where(counted, compared, 0.0).astype(np.float64)
        if metric in ("l2", "norm-l2"):
            squares = np.einsum("nd,nd->n", queries[:, :-1], queries[:, :-1])[:, None]
            squares = squares + (metric == "norm-l2")  # whose rows have length 1
            compared = -np.sqrt(np.maximum(squares - 2 * compared, 0.0))
        total[first : first + len(compared)] += np.where(counted, value(compared), 0.0).sum(axis=1)
    return total / (size - exclude_self)


def _likeness(
    metric: str, bank: Rows, temperature: float, softmax_temperature: float
) -> tuple[Likeness, Callable[[Floats], Floats]]:
    """Return how a metric's neighbours are found, and what it makes of their likeness.

    The Euclidean distance falls with x.y - |y|^2 / 2, one product of x and y with one more dimension each. Of rows at
    length 1 it is there for rows of zeros, whose length stays 0, and is 0 for all others.
    """

    def same(rows: Array) -> Array:
        return rows

    if metric in ("cos-sim", "temp-cos-sim"):
        divisor = temperature if metric == "temp-cos-sim" else 1.0
        return COSINE, lambda cosine: np.exp(cosine / divisor)
    if metric in ("sim", "BC"):

        def probability(rows: Array) -> Array:
            p = softmax(rows, softmax_temperature)
            return p if metric == "sim" else np.sqrt(p)

        return Likeness(probability, probability), same
    plain = unit if metric.startswith("norm-") else same
    order = 1 if metric.endswith("l1") else 2

    def pairs(queries: Floats, there: Floats) -> Floats:
        apart = plain(there.reshape(-1, there.shape[2])).reshape(there.shape) - plain(queries)[:, None]
        return -np.linalg.norm(apart, ord=order, axis=2)

    if order == 1:
        return Likeness(plain, plain, _negative_l1, pairs), same
    centre = 0.0 if plain is unit else next(block for _, block in blocks(bank, "the bank's features")).mean(axis=0)

    share, length = (1 / 16, 1.0) if plain is unit else (1.0, 0.0)  # a small share costs the 8-bit search no digits

    def shifted(rows: Array) -> Array:
        return plain(rows) - np.asarray(centre, rows.dtype)  # distances stay, and have more digits

    def lengthened(rows: Array) -> Array:
        return np.concatenate([shifted(rows), np.full((len(rows), 1), share, rows.dtype)], axis=1)

    def with_length(rows: Array) -> Array:
        moved = shifted(rows)
        squares = np.einsum("nd,nd->n", moved, moved)
        return np.concatenate([moved, ((length - squares) / (2 * share))[:, None].astype(rows.dtype)], axis=1)

    return Likeness(lengthened, with_length, None, pairs), same


def _negative_l1(queries: Array, bank: Array) -> Array:
    import torch  # has L1 distances in single precision

    return -torch.cdist(torch.from_numpy(queries), torch.from_numpy(bank), p=1.0).numpy()
