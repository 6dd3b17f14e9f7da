"""Scores of the nearest ID training images: the mean similarity of the k nearest of a bank.

Metrics are those of Adaloglou et al. (2024), whose code has one more (MI, which depends on how the test set is cut).

Shapes: N images, M of the bank, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from domix.ood.blocks import Array, Floats, Rows, blocks, shape_of, take, unit
from domix.ood.neighbours import Prepare, check_neighbours, inner_product, nearest, similarity_blocks
from domix.ood.scores.logits import check_positive, softmax
from domix.ood.scores.registry import score
from domix.runtime.errors import ParameterError

METRICS = ("cos-sim", "temp-cos-sim", "sim", "BC", "l1", "l2", "norm-l1", "norm-l2")
PAIRS = 1 << 25  # numbers of neighbours in memory at once


@dataclass(frozen=True)
class Search:
    """How neighbours are found: rows prepared and compared, and what a comparison means.

    Attributes:
        prepare: what is done to queries.
        prepare_bank: what is done to the bank.
        compare: rises with the similarity.
        value: the similarity of compared rows; takes what compare returns [n, m], and the prepared queries [n, D'].
        plain: rows between which the distance is taken once they are found; None: the value is exact.
    """

    prepare: Prepare
    prepare_bank: Prepare
    compare: Callable[[Array, Array], Array]
    value: Callable[[Array, Array], Array]
    plain: Prepare | None = None


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
    search = _search(metric, bank, temperature, softmax_temperature)
    if k == -1:
        return _mean_of_all(features, bank, search, size, exclude_self)
    check_neighbours(k, size, exclude_self)
    found = nearest(
        features,
        bank,
        k,
        exclude_self=exclude_self,
        prepare=search.prepare,
        prepare_bank=search.prepare_bank,
        compare=search.compare,
    )
    if search.plain is None:
        values = found.similarity.astype(np.float64)
        return search.value(values, values).mean(axis=1)
    means, step = [], max(1, PAIRS // (k * shape_of(bank, "the bank's features")[1]))
    for start, block in blocks(features, "the features", size=step):
        there = take(bank, found.place[start : start + len(block)].ravel()).astype(np.float64)
        apart = search.plain(there).reshape(len(block), k, -1) - search.plain(block)[:, None]
        means.append(-np.sqrt(np.einsum("nkd,nkd->nk", apart, apart)).mean(axis=1))
    return np.concatenate(means)


def _mean_of_all(features: Rows, bank: Rows, search: Search, size: int, exclude_self: bool) -> Floats:
    """Return the mean similarity with all images of the bank, or with all others [N]."""
    check_neighbours(1, size, exclude_self)
    total = np.zeros(shape_of(features, "the features")[0])
    for first, _, compared in similarity_blocks(
        features,
        bank,
        exclude_self=exclude_self,
        prepare=search.prepare,
        prepare_bank=search.prepare_bank,
        compare=search.compare,
    ):
        rows = slice(first, first + len(compared))
        queries = search.prepare(take(features, np.arange(rows.start, rows.stop)))
        counted = ~np.isneginf(compared)
        value = search.value(np.where(counted, compared, 0.0).astype(np.float64), queries)
        total[rows] += np.where(counted, value, 0.0).sum(axis=1)
    return total / (size - exclude_self)


def _search(metric: str, bank: Rows, temperature: float, softmax_temperature: float) -> Search:
    """Return how a metric's neighbours are found.

    The Euclidean distance falls with x.y - |y|^2 / 2, one product of x and y with one more dimension each.
    """

    def by_product(prepare: Prepare, value: Callable[[Array], Array]) -> Search:
        return Search(prepare, prepare, inner_product, lambda compared, _: value(compared))

    def same(rows: Array) -> Array:
        return rows

    if metric in ("cos-sim", "temp-cos-sim"):
        divisor = temperature if metric == "temp-cos-sim" else 1.0
        return by_product(unit, lambda cosine: np.exp(cosine / divisor))
    if metric == "sim":
        return by_product(lambda rows: softmax(rows, softmax_temperature), same)
    if metric == "BC":
        return by_product(lambda rows: np.sqrt(softmax(rows, softmax_temperature)), same)
    plain = unit if metric.startswith("norm-") else same
    if metric.endswith("l1"):
        return Search(plain, plain, _negative_l1, lambda compared, _: compared)
    centre = next(block for _, block in blocks(bank, "the bank's features")).mean(axis=0)  # any will do: for precision

    def lengthened(rows: Array) -> Array:
        return np.concatenate([shifted(rows), np.ones((len(rows), 1), rows.dtype)], axis=1)

    def with_length(rows: Array) -> Array:
        moved = shifted(rows)
        return np.concatenate([moved, -0.5 * np.einsum("nd,nd->n", moved, moved)[:, None]], axis=1)

    def shifted(rows: Array) -> Array:
        return unit(rows) if plain is unit else rows - centre.astype(rows.dtype)

    def distance(compared: Array, queries: Array) -> Array:
        squares = np.einsum("nd,nd->n", queries[:, :-1], queries[:, :-1])[:, None]
        return -np.sqrt(np.maximum(squares - 2 * compared, 0.0))

    return Search(lengthened, with_length, inner_product, distance, plain)


def _negative_l1(queries: Array, bank: Array) -> Array:
    import torch  # whose L1 distances are several times as fast as scipy's

    return -torch.cdist(torch.from_numpy(queries), torch.from_numpy(bank), p=1.0).numpy()
