"""The training samples of several mixtures as one set, and a search for those nearest to held-out images.

Mixtures of a study share most of their samples. So all samples are put together, each once, in groups: those of a group
are shown by the same mixtures. What is found for each group then adds up to what is found for each mixture, and one
pass over the samples serves them all.

Shapes: P held-out images, N samples, U groups, M mixtures, D embedding, B a block of samples, T neighbours kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
WORD = 64  # mixtures whose membership one number holds


@dataclass(frozen=True)
class Samples:
    """Samples of several sources, ordered by source and row."""

    sources: tuple[str, ...]
    source: Ints  # [N] place in `sources`
    row: Ints  # [N]
    group: Ints  # [N]
    shown: Bools  # [U, M] which mixtures show a group's samples

    def __len__(self) -> int:
        return len(self.row)

    @property
    def held(self) -> Bools:
        """Which samples some mixture shows: bool [N]."""
        return np.asarray(self.shown.any(axis=1), dtype=bool)[self.group]

    def of_source(self, name: str) -> Ints:
        """Return the numbers of a source's samples, rising."""
        return np.flatnonzero(self.source == self.sources.index(name))

    def divided(self, flag: Bools) -> tuple[Samples, Bools]:
        """Divide each group by a flag [N] of its samples; return the samples, and the flag of each new group [U]."""
        group, first = _distinct(np.stack([self.group, flag], axis=1).astype(np.uint64))
        return replace(self, group=group, shown=self.shown[self.group[first]]), flag[first]

    def find(self, source: str, rows: Ints) -> Ints:
        """Return the numbers of samples that are among these, by their rows."""
        mine = self.of_source(source)
        return mine[np.searchsorted(self.row[mine], rows)]


def gather(mixtures: Sequence[pd.DataFrame], sources: Mapping[str, Ints]) -> Samples:
    """Put mixtures (columns `source`, `row`) together.

    Args:
        mixtures: M tables.
        sources: source -> rows that are to be among the samples even where no mixture shows them.
    """
    parts = []
    for place, (name, extra) in enumerate(sources.items()):
        rows = [table.loc[(table["source"] == name).to_numpy(), "row"].to_numpy() for table in mixtures]
        length = max(int(some.max()) + 1 for some in (*rows, extra, np.zeros(1, np.int64)) if len(some))
        words = np.zeros((length, len(mixtures) // WORD + 1), np.uint64)
        for number, some in enumerate(rows):
            words[some, number // WORD] |= np.uint64(1 << number % WORD)
        present = np.asarray(words.any(axis=1), dtype=bool)
        present[extra] = True
        chosen = np.flatnonzero(present)
        parts.append((np.full(len(chosen), place), chosen, words[chosen]))
    source, row, words = (np.concatenate(column) for column in zip(*parts, strict=True))
    group, first = _distinct(words)
    numbers = np.arange(len(mixtures))
    shown = (words[first][:, numbers // WORD] >> (numbers % WORD).astype(np.uint64)) & np.uint64(1)
    return Samples(tuple(sources), source, row, group, shown.astype(bool))


def _distinct(words: NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Number the distinct rows of [N, W] in order of appearance: each row's number, and where each first appears."""
    group = np.zeros(len(words), np.int64)
    for word in words.T:
        codes, values = pd.factorize(word)
        group = pd.factorize(group * len(values) + codes)[0].astype(np.int64)
    count = int(group.max()) + 1 if len(group) else 0
    first = np.full(count, len(words))
    np.minimum.at(first, group, np.arange(len(words)))
    return group, first


class Nearest:
    """Collects, block by block, how many samples of each group are close to held-out images, and which are nearest.

    Its memory does not grow with the number of samples.
    """

    def __init__(self, held_out: Floats, label: Ints, *, groups: int, similarity: float, keep: int) -> None:
        """Take held-out images [P, D], L2-normalised, and their classes [P]; samples are close from `similarity` on.

        `keep` nearest samples of each group are kept for each image.
        """
        self.held_out, self.label, self.similarity = held_out, label, similarity
        self.close = np.zeros(groups, np.int64)  # samples close to some image
        self.same_class = np.zeros(groups, np.int64)  # those of them that are close to one of their own class
        self.touched = np.zeros((groups, len(held_out)), bool)  # images to which some sample is close
        self.value = np.full((groups, len(held_out), keep), -np.inf, np.float32)
        self.sample = np.full((groups, len(held_out), keep), -1, np.int64)

    def add(self, image: Floats, sample: Ints, group: Ints, label: Ints) -> None:
        """Take samples [B, D], L2-normalised, with their numbers, groups and classes (-1: none), each [B]."""
        likeness_PB = self.held_out @ image.T
        for number in np.unique(group):
            here = np.flatnonzero(group == number)
            some = likeness_PB if len(here) == len(group) else likeness_PB[:, here]
            close = some >= self.similarity
            self.close[number] += close.any(axis=0).sum()
            self.same_class[number] += (close & (self.label[:, None] == label[here])).any(axis=0).sum()
            self.touched[number] |= close.any(axis=1)
            self._keep(number, some, sample[here])

    def _keep(self, number: int, likeness: Floats, sample: Ints) -> None:
        if not (likeness > self.value[number][:, -1:]).any():
            return
        value = np.concatenate([self.value[number], likeness], axis=1)
        ids = np.concatenate([self.sample[number], np.broadcast_to(sample, likeness.shape)], axis=1)
        self.value[number], self.sample[number] = _top(value, ids, self.value.shape[2])

    def nearest(self, groups: Bools) -> tuple[Floats, Ints]:
        """Return the nearest samples of some groups bool [U] to each image: similarity and number [P, T].

        The nearest come first; where there are fewer than T, -inf and -1 fill up.
        """
        flat = (len(self.held_out), -1)
        value = self.value[groups].transpose(1, 0, 2).reshape(flat)
        ids = self.sample[groups].transpose(1, 0, 2).reshape(flat)
        if value.shape[1] == 0:
            return self.value[:0].reshape(len(self.held_out), 0), self.sample[:0].reshape(len(self.held_out), 0)
        return _top(value, ids, self.value.shape[2])


def _top(value: Floats, ids: Ints, count: int) -> tuple[Floats, Ints]:
    """Return the `count` greatest of each row [P, C] and their numbers, falling; of equals the lower number first."""
    if value.shape[1] > 4 * count:  # a partial sort first; ties at its edge fall either way, equal in value
        part = np.argpartition(-value, count, axis=1)[:, : count + 1]
        value, ids = np.take_along_axis(value, part, axis=1), np.take_along_axis(ids, part, axis=1)
    order = np.lexsort((ids, -value), axis=1)[:, :count]
    return np.take_along_axis(value, order, axis=1), np.take_along_axis(ids, order, axis=1)
