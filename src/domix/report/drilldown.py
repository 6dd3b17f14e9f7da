"""A closer look: each mixture, each test class and single pictures, as far as a page of megabytes can show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from domix.report import tables
from domix.report.examples import Example, load, spaced, thumbnail, withheld
from domix.report.study import Results

PAIRS, CHANGES = 6, 6  # of a mixture: pairs of classes taken for each other, pictures won and lost
ANSWERS = 6  # names that a mixture gives most often
PICTURES, MOST = 600, 24  # of all classes together, and of one class
Read = Callable[[int], bytes]  # row of the index -> encoded picture


@dataclass(frozen=True)
class Pair:
    """A class that a mixture takes for another: `count` of `of` answers, and one of the pictures."""

    truth: str
    said: str
    count: int
    of: int
    uri: str


@dataclass(frozen=True)
class Answer:
    """A name that a mixture gives to withheld pictures: how often, how often rightly, and how many pictures bear it."""

    name: str
    given: int
    right: int
    bear: int


@dataclass(frozen=True)
class Change:
    """A picture that a mixture reads and the baseline does not, or the other way round; ranks are means over seeds."""

    example: Example
    before: float
    after: float


@dataclass(frozen=True)
class MixtureView:
    """One mixture; no changes where it is the baseline.

    `measured` maps a domain to its rows of `tables.estimates` on the test classes, all others, and all; None: no
    pictures.
    """

    mixture: str
    measured: dict[str, list[pd.Series | None]]
    pairs: list[Pair]
    answers: list[Answer]
    improved: list[Change]
    worsened: list[Change]


@dataclass(frozen=True)
class ClassView:
    """One test class in the test domain: accuracy by mixture (mean over seeds), and pictures."""

    name: str
    n: int
    accuracy: dict[str, float]
    examples: list[Example]


def mixtures(study: Results, read: Read) -> list[MixtureView]:
    """Describe every mixture of a study."""
    frame = tables.estimates(study)
    rows = withheld(study)
    ranks = _ranks(rows)
    views = []
    for mixture in study.mixtures:
        mine = rows[rows["mixture"] == mixture]
        measured = {domain: _measured(study, frame, mixture, domain) for domain in study.domains}
        changes: dict[bool, list[Change]] = {True: [], False: []}
        if study.baseline not in (None, mixture):
            changes = {won: _changes(study, ranks, mixture, won, read) for won in (True, False)}
        views.append(MixtureView(mixture, measured, confused(mine, read), answers(mine), changes[True], changes[False]))
    return views


def _measured(study: Results, frame: pd.DataFrame, mixture: str, domain: str) -> list[pd.Series | None]:
    special = "withheld" if domain == study.test_domain else "tested"
    return [tables.pick(frame, mixture, domain, cells) for cells in (special, "seen", "all")]


def confused(rows: pd.DataFrame, read: Read) -> list[Pair]:
    """Return the pairs that a mixture confuses most: by count, then by how far off the truth was (its mean rank).

    Args:
        rows: predictions of one mixture, of all seeds.
        read: gives the encoded picture of a row.
    """
    wrong = rows[rows["rank"] > 1]
    groups = wrong.groupby(["class", "predicted"])
    pairs = groups.agg(count=("row", "size"), rank=("rank", "mean"), row=("row", "min")).reset_index()
    pairs = pairs.sort_values(["count", "rank", "class", "predicted"], ascending=[False, False, True, True])
    asked = rows["class"].value_counts()
    return [
        Pair(
            spaced(p["class"]),
            spaced(p["predicted"]),
            int(p["count"]),
            int(asked[p["class"]]),
            thumbnail(read(p["row"])),
        )
        for _, p in pairs.head(PAIRS).iterrows()
    ]


def answers(rows: pd.DataFrame) -> list[Answer]:
    """Return the names that a mixture gives most often, commonest first."""
    given = rows["predicted"].value_counts()
    right = rows.loc[rows["rank"] == 1, "predicted"].value_counts()
    bear = rows["class"].value_counts()
    order = sorted(given.index, key=lambda name: (-int(given[name]), name))[:ANSWERS]
    return [Answer(spaced(n), int(given[n]), int(right.get(n, 0)), int(bear.get(n, 0))) for n in order]


def _ranks(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the geometric mean over seeds of the true class's rank: a row a picture, a column a mixture."""
    table = rows.assign(log=np.log(rows["rank"])).pivot_table(index="row", columns="mixture", values="log")
    return table.apply(np.exp)


def _changes(study: Results, ranks: pd.DataFrame, mixture: str, won: bool, read: Read) -> list[Change]:
    """Return the pictures that a mixture always reads and the baseline put farthest off (`won`), or vice versa."""
    before, after = ranks[study.baseline], ranks[mixture]
    good, bad = (after, before) if won else (before, after)
    worst = bad[(good == 1) & (bad > 1)].sort_values(ascending=False, kind="stable").head(CHANGES)
    chosen = [int(row) for row in worst.index]
    examples = load(study, chosen, read, thumbnail)
    return [
        Change(example, float(before[row]), float(after[row])) for row, example in zip(chosen, examples, strict=True)
    ]


def classes(study: Results, read: Read) -> list[ClassView]:
    """Describe every test class, by name; each shows as many of its first pictures as all together may take."""
    table = tables.class_table(study)
    rows = withheld(study)
    each = min(MOST, max(1, PICTURES // max(1, len(table))))
    pictures = {name: sorted(part["row"].unique().tolist()) for name, part in rows.groupby("class")}
    chosen = {name: found[:each] for name, found in pictures.items()}
    examples = iter(load(study, [row for found in chosen.values() for row in found], read, thumbnail))
    return [
        ClassView(
            name=spaced(str(name)),
            n=len(pictures[name]),
            accuracy={str(mixture): float(value) for mixture, value in table.loc[name].items()},
            examples=[next(examples) for _ in chosen[name]],
        )
        for name in chosen
    ]
