"""The nearest rows of a bank to each query, by an inner product, exactly and in bounded memory.

Queries and bank are cut into blocks; a block of similarities is one matrix product. Of each, only what beats a query's
k-th best so far is looked at: after the first blocks that is next to nothing.

Shapes: N queries, M rows of the bank, D dimensions, k neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Ints, Rows, blocks, check_labels, shape_of, unit
from domix.runtime.errors import DataError, ParameterError

Prepare = Callable[[Array], Array]
QUERIES, BANK = 2048, 8192  # rows of a block: 64 MiB of similarities in float32
HELD = 1 << 28  # bytes of queries that one pass over the bank serves


def inner_product(queries: Array, bank: Array) -> Array:
    """Return the inner products [n, m] of rows [n, D] and [m, D]."""
    return queries @ bank.T


@dataclass(frozen=True)
class Nearest:
    """The k nearest of each query, nearest first: `similarity` [N, k] and `place` in the bank, int64 [N, k]."""

    similarity: Array
    place: Ints


def precision(*rows: Rows) -> type:
    """Return float64 where all arrays are, else float32: what products are computed in."""
    kinds = {np.asarray(part).dtype for some in rows for part in ([some] if isinstance(some, np.ndarray) else some)}
    return np.float64 if kinds == {np.dtype(np.float64)} else np.float32


def check_neighbours(k: int, size: int, exclude_self: bool) -> None:
    """Check that a bank has k neighbours for each query.

    Raises:
        ParameterError: k is below 1.
        DataError: the bank is too small.
    """
    if k < 1:
        raise ParameterError(f"k is {k}: give a number of neighbours from 1, or -1 for all", argument="k")
    have = size - exclude_self
    if k > have:
        itself = ", the image itself left out," if exclude_self else ""
        raise DataError(f"the bank has {have} images{itself} and {k} neighbours are asked for: lower k", argument="k")


def similarity_blocks(
    queries: Rows,
    bank: Rows,
    *,
    exclude_self: bool,
    prepare: Prepare = unit,
    prepare_bank: Prepare | None = None,
    compare: Callable[[Array, Array], Array] = inner_product,
) -> Iterator[tuple[int, int, Array]]:
    """Yield blocks of similarities with the numbers of their first query and first row of the bank.

    The bank is read once for each HELD bytes of queries, and each of its rows prepared as often.

    Args:
        queries: [N, D].
        bank: [M, D].
        exclude_self: the bank is the queries, in their order: a query's similarity with itself is -inf, in every block.
        prepare: what is done to queries first.
        prepare_bank: what is done to rows of the bank; the same by default.
        compare: similarities [n, m] of prepared rows [n, D] and [m, D].

    Raises:
        DataError: the arrays do not fit, or a number is not finite.
    """
    count, width = shape_of(queries, "the features")
    size, other = shape_of(bank, "the bank's features")
    if width != other:
        raise DataError(f"the features have {width} dimensions, the bank's {other}: give them of one encoder")
    if exclude_self and count != size:
        raise DataError(f"there are {count} images and {size} in the bank: give the same to leave out the image itself")
    dtype = precision(queries, bank)
    held = max(1, HELD // (QUERIES * width * np.dtype(dtype).itemsize))
    parts = blocks(queries, "the features", size=QUERIES, dtype=dtype)
    while asked := [(first, prepare(some)) for first, some in islice(parts, held)]:
        for start, rows in blocks(bank, "the bank's features", size=BANK, dtype=dtype):
            prepared = (prepare_bank or prepare)(rows)
            for first, some in asked:
                similarity = compare(some, prepared)
                if exclude_self:
                    own = np.arange(max(first, start), min(first + len(some), start + len(rows)))
                    similarity[own - first, own - start] = -np.inf
                yield first, start, similarity


def nearest(
    queries: Rows,
    bank: Rows,
    k: int,
    *,
    exclude_self: bool = False,
    prepare: Prepare = unit,
    prepare_bank: Prepare | None = None,
    compare: Callable[[Array, Array], Array] = inner_product,
) -> Nearest:
    """Find the k rows of the bank with the highest similarity to each query: by default the cosine.

    Of rows as near, the first counts. Memory holds some blocks and the answer, whatever the bank's size. Arguments are
    those of `similarity_blocks`.

    Raises:
        DataError: the bank is too small, arrays do not fit, or a number is not finite.
    """
    size, _ = shape_of(bank, "the bank's features")
    count, _ = shape_of(queries, "the features")
    check_neighbours(k, size, exclude_self)
    best = np.full((count, k), -np.inf, precision(queries, bank))
    place = np.full((count, k), -1, np.int64)
    for first, start, similarity in similarity_blocks(
        queries, bank, exclude_self=exclude_self, prepare=prepare, prepare_bank=prepare_bank, compare=compare
    ):
        some = slice(first, first + len(similarity))
        _merge(best[some], place[some], similarity, start)
    return Nearest(best, place)


def _merge(best: Array, place: Ints, product: Array, start: int) -> None:
    """Put what of a block [n, m] beats the best so far [n, k] among them, in place."""
    k = best.shape[1]
    if k == 1:
        column = product.argmax(axis=1)
        value = np.take_along_axis(product, column[:, None], axis=1)
        better = value[:, 0] > best[:, 0]
        best[better], place[better] = value[better], (column[better] + start)[:, None]
        return
    if product.shape[1] > 4 * k and np.isneginf(best[:, -1]).any():  # the first block: nothing to beat yet
        columns = np.sort(np.argpartition(-product, k - 1, axis=1)[:, :k], axis=1)
        rows = np.repeat(np.arange(len(product)), k)
        columns = columns.ravel()
    else:
        rows, columns = np.nonzero(product > best[:, -1:])
    if len(rows) == 0:
        return
    counts = np.bincount(rows, minlength=len(product))
    touched = np.flatnonzero(counts)
    slot = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    value = np.full((len(touched), k + int(counts.max())), -np.inf, best.dtype)
    number = np.full(value.shape, -1, np.int64)
    value[:, :k], number[:, :k] = best[touched], place[touched]
    at = np.searchsorted(touched, rows), k + slot
    value[at], number[at] = product[rows, columns], columns + start
    order = np.argsort(-value, axis=1, kind="stable")[:, :k]
    best[touched], place[touched] = (np.take_along_axis(part, order, axis=1) for part in (value, number))


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
    for start in range(0, count, QUERIES):
        rows = slice(start, start + QUERIES)
        cosine = found.similarity[rows].astype(np.float64)
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
