"""The nearest rows of a bank to each query, exactly and in bounded memory.

Queries and bank are cut into blocks; a block of likenesses is one matrix product. Of each, only what beats a query's
k-th best so far is looked at: after the first blocks that is next to nothing. In large searches most products are of
8-bit numbers, which processors multiply several times as fast, and what their error leaves open is computed anew
(domix.ood.quantised). In the end the likeness of what was found is computed in double precision.

Shapes: N queries, M rows of the bank, D dimensions, k neighbours, n and m of a block.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from domix.ood.blocks import Array, Floats, Ints, Rows, blocks, shape_of, take, unit
from domix.ood.quantised import Quantised, highest, quantised_is_faster, turned
from domix.runtime.errors import DataError, ParameterError

Prepare = Callable[[Array], Array]
QUERIES, BANK = 2048, 4096  # rows of a block: 32 MiB of likenesses in single precision
HELD = 1 << 29  # bytes of queries that one pass over the bank serves
PAIRS = 1 << 21  # numbers of rows in memory at once while pairs are compared: they stay in a cache
LARGE = 16 * BANK  # rows of a bank from which 8-bit products are worth their preparation,
MANY = 8  # and queries, as many times the width


@dataclass(frozen=True)
class Likeness:
    """How queries and rows of a bank are compared: by the inner product of prepared rows, if nothing else is said.

    Attributes:
        query: prepares queries.
        bank: prepares the bank's rows.
        compare: takes prepared rows [n, D] and [m, D]; rises with the likeness [n, m].
        pairs: the likeness itself, of queries [n, D] and bank rows [n, k, D], unprepared: [n, k].
        weights: numbers [M] that the bank's prepared rows are multiplied by; None: they are not.
    """

    query: Prepare
    bank: Prepare
    compare: Callable[[Array, Array], Array] | None = None
    pairs: Callable[[Floats, Floats], Floats] | None = None
    weights: Floats | None = None

    def prepared(self, rows: Array, places: slice | Ints) -> Array:
        """Prepare rows of the bank [m, D] that stand at some places in it."""
        found = self.bank(rows)
        return found if self.weights is None else found * self.weights[places, None].astype(found.dtype)

    def block(self, queries: Array, bank: Array) -> Array:
        """Compare prepared rows: [n, m]."""
        return queries @ bank.T if self.compare is None else self.compare(queries, bank)

    def of_pairs(self, queries: Floats, bank: Floats, places: Ints, which: Ints) -> Floats:
        """Compare queries [n, D] with those of rows [m, D], at `places` of the bank, that `which` names: [n, k]."""
        if self.pairs is not None:
            return self.pairs(queries, bank[which])
        return np.einsum("nd,nkd->nk", self.query(queries), self.prepared(bank, places)[which])


COSINE = Likeness(unit, unit)


@dataclass(frozen=True)
class Nearest:
    """The k nearest of each query, nearest first: `similarity` float64 [N, k], `place` in the bank int64 [N, k]."""

    similarity: Floats
    place: Ints


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


def check_pair(queries: Rows, bank: Rows, exclude_self: bool) -> tuple[int, int, type]:
    """Return how many queries and rows there are, and what to compute in: double precision if all arrays are.

    Raises:
        DataError: the arrays do not fit.
    """
    count, width = shape_of(queries, "the features")
    size, other = shape_of(bank, "the bank's features")
    if width != other:
        raise DataError(f"the features have {width} dimensions, the bank's {other}: give them of one encoder")
    if exclude_self and count != size:
        raise DataError(f"there are {count} images and {size} in the bank: give the same to leave out the image itself")
    parts = [part for rows in (queries, bank) for part in ([rows] if isinstance(rows, np.ndarray) else rows)]
    return count, size, np.float64 if all(part.dtype == np.float64 for part in parts) else np.float32


def likeness_blocks(
    queries: Rows, bank: Rows, likeness: Likeness, *, exclude_self: bool
) -> Iterator[tuple[int, int, Array, Array]]:
    """Yield the number of a first query, of a first row of the bank, prepared queries, and their likeness [n, m].

    The bank is read once for each HELD bytes of queries.

    Args:
        queries: [N, D].
        bank: [M, D].
        likeness: how they are compared.
        exclude_self: the bank is the queries, in their order: a query's likeness with itself is -inf, in every block.

    Raises:
        DataError: the arrays do not fit, or a number is not finite.
    """
    _, _, dtype = check_pair(queries, bank, exclude_self)
    for asked in _held(queries, likeness, dtype):
        for start, rows in blocks(bank, "the bank's features", size=BANK, dtype=dtype):
            prepared = likeness.prepared(rows, slice(start, start + len(rows)))
            for first, some in asked:
                found = likeness.block(some, prepared)
                if exclude_self:
                    own = _own(first, start, found.shape)
                    found[own - first, own - start] = -np.inf
                yield first, start, some, found


def _held(queries: Rows, likeness: Likeness, dtype: type) -> Iterator[list[tuple[int, Array]]]:
    """Yield prepared blocks of queries, as many at a time as may be held, each with the number of its first query."""
    _, width = shape_of(queries, "the features")
    held = max(1, HELD // (QUERIES * width * np.dtype(dtype).itemsize))
    parts = blocks(queries, "the features", size=QUERIES, dtype=dtype)
    while asked := [(first, likeness.query(some)) for first, some in islice(parts, held)]:
        yield asked


def _own(first: int, start: int, shape: tuple[int, ...]) -> Ints:
    """Return the numbers of the images that are both queries and rows of the bank in a block."""
    return np.arange(max(first, start), min(first + shape[0], start + shape[1]))


def nearest(queries: Rows, bank: Rows, k: int, *, exclude_self: bool = False, likeness: Likeness = COSINE) -> Nearest:
    """Find the k rows of the bank that are most like each query, by default by the cosine.

    Memory holds some blocks and the answer, whatever the bank's size. Of rows that are alike to rounding any may be
    among the k; those found stand in order, of equal ones the first first.

    Args:
        queries: [N, D].
        bank: [M, D].
        k: how many.
        exclude_self: the bank is the queries, in their order: none is its own neighbour.
        likeness: how they are compared.

    Raises:
        DataError: the bank is too small, arrays do not fit, or a number is not finite.
    """
    count, size, dtype = check_pair(queries, bank, exclude_self)
    check_neighbours(k, size, exclude_self)
    best = _Best(count, k, dtype)
    large = size >= LARGE and count >= MANY * shape_of(bank, "the bank's features")[1]
    if large and dtype is np.float32 and likeness.compare is None and quantised_is_faster():
        _search_quantised(queries, bank, likeness, exclude_self, best)
    else:
        for first, start, _, found in likeness_blocks(queries, bank, likeness, exclude_self=exclude_self):
            best.offer(first, start, found)
    return _in_order(queries, bank, best.place, likeness)


@dataclass
class _Best:
    """The best so far of each query: value and place [N, k]."""

    count: int
    k: int
    dtype: type
    value: Array = field(init=False)
    place: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.value = np.full((self.count, self.k), -np.inf, self.dtype)
        self.place = np.full((self.count, self.k), -1, np.int64)

    def offer(self, first: int, start: int, found: Array) -> None:
        """Take what of a block [n, m] is better."""
        best = self.value[first : first + len(found)]
        if self.k == 1:
            column = found.argmax(axis=1)
            rows = np.flatnonzero(found[np.arange(len(found)), column] > best[:, 0])
            self.value[first + rows, 0], self.place[first + rows, 0] = found[rows, column[rows]], start + column[rows]
            return
        if found.shape[1] > 4 * self.k and np.isneginf(best).all():  # there is nothing to beat yet
            columns = np.sort(np.argpartition(-found, self.k - 1, axis=1)[:, : self.k], axis=1).ravel()
            rows = np.repeat(np.arange(len(found)), self.k)
        else:
            rows, columns = np.nonzero(found > best[:, -1:])
        self.insert(first + rows, start + columns, found[rows, columns])

    def insert(self, rows: Ints, places: Ints, values: Array) -> None:
        """Take pairs, in order of rows."""
        if len(rows) == 0:
            return
        starts = np.flatnonzero(np.append(True, rows[1:] != rows[:-1]))
        touched, counts = rows[starts], np.diff(starts, append=len(rows))
        slot = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        value = np.full((len(touched), self.k + int(counts.max())), -np.inf, self.dtype)
        place = np.full(value.shape, -1, np.int64)
        value[:, : self.k], place[:, : self.k] = self.value[touched], self.place[touched]
        at = np.repeat(np.arange(len(touched)), counts), self.k + slot
        value[at], place[at] = values, places
        order = np.argsort(-value, axis=1, kind="stable")[:, : self.k]
        self.value[touched], self.place[touched] = (np.take_along_axis(part, order, axis=1) for part in (value, place))


def _search_quantised(queries: Rows, bank: Rows, likeness: Likeness, exclude_self: bool, best: _Best) -> None:
    """Search with 8-bit products: pairs that they leave open are multiplied in single precision."""
    room = np.empty(QUERIES * BANK, np.int32)
    for asked in _held(queries, likeness, np.float32):
        small = [Quantised(turned(some), each_row=True) for _, some in asked]
        for start, rows in blocks(bank, "the bank's features", size=BANK, dtype=np.float32):
            prepared = likeness.prepared(rows, slice(start, start + len(rows)))
            held = Quantised(turned(prepared), each_row=False)
            for (first, some), quantised in zip(asked, small, strict=True):
                own = _own(first, start, (len(some), len(rows))) if exclude_self else np.arange(0)
                products = quantised.products(held, leave_out=(own - first, own - start), room=room)
                least, k = best.value[first : first + len(some), -1], min(best.k, len(rows))
                sure = least
                if np.isneginf(least).any():  # the worst of any k, or of all that there are, is sure to be no better
                    columns = highest(products, k)
                    values = _inner_products(some, prepared, np.repeat(np.arange(len(some)), k), columns.ravel())
                    sure = np.maximum(least, values.reshape(columns.shape).min(axis=1))
                pairs = quantised.pairs_above(sure, held, products)
                if len(pairs[0]) * 16 > products.size:  # the numbers say too little
                    values = likeness.block(some, prepared)[pairs]
                else:
                    values = _inner_products(some, prepared, *pairs)
                better = values > least[pairs[0]]
                best.insert(first + pairs[0][better], start + pairs[1][better], values[better])


def _inner_products(queries: Array, bank: Array, rows: Ints, columns: Ints) -> Array:
    """Return the inner products of pairs [p] of rows of two arrays, pairs in order of rows."""
    import torch  # multiplies chosen pairs without copies of their rows

    ends = torch.from_numpy(np.searchsorted(rows, np.arange(len(queries) + 1)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR", UserWarning)
        pairs = torch.sparse_csr_tensor(
            ends,
            torch.from_numpy(columns),
            torch.zeros(len(columns)),
            (len(queries), len(bank)),
            check_invariants=False,
        )
        left, right = torch.from_numpy(queries), torch.from_numpy(bank).T
        return torch.sparse.sampled_addmm(pairs, left, right, beta=0.0).values().numpy()


def _in_order(queries: Rows, bank: Rows, place: Ints, likeness: Likeness) -> Nearest:
    """Compute the likeness of what was found in double precision, and put it in order."""
    similarity, k = np.empty(place.shape), place.shape[1]
    step = max(1, PAIRS // (k * shape_of(bank, "the bank's features")[1]))
    for start, block in blocks(queries, "the features", size=step):
        rows = slice(start, start + len(block))
        found, which = np.unique(place[rows], return_inverse=True)
        there = take(bank, found).astype(np.float64)
        similarity[rows] = likeness.of_pairs(block, there, found, which.reshape(len(block), k))
    order = np.lexsort((place, -similarity), axis=1)
    return Nearest(np.take_along_axis(similarity, order, axis=1), np.take_along_axis(place, order, axis=1))
