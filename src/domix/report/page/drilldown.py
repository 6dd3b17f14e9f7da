"""A closer look: each mixture, each test class and single images, as far as a page of megabytes can show them."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from domix.report.load.study import Results
from domix.report.page.examples import Example, held_out, load, spaced, thumbnail
from domix.report.tables import summary

PAIRS, CHANGES = 6, 6  # of a mixture: pairs of classes taken for each other, images won and lost
ANSWERS = 6  # names that a mixture gives most often
IMAGES, MOST = 600, 24  # of all classes together, and of one class
Read = Callable[[int], bytes]  # row of the index -> encoded image


@dataclass(frozen=True)
class Pair:
    """A class that a mixture takes for another: `count` of `of` answers, and one of the images."""

    truth: str
    said: str
    count: int
    of: int
    uri: str


@dataclass(frozen=True)
class Answer:
    """A name that a mixture gives to held-out images: how often, how often rightly, and how many images bear it."""

    name: str
    given: int
    right: int
    bear: int


@dataclass(frozen=True)
class Change:
    """An image that a mixture reads and the baseline does not, or the other way round; ranks are means over seeds."""

    example: Example
    before: float
    after: float


@dataclass(frozen=True)
class MixtureView:
    """One mixture; no changes where it is the baseline.

    `measured` maps a domain to its rows of `summary.estimates` on the test classes, all others, and all; None: no
    images.
    """

    mixture: str
    measured: dict[str, list[dict[Hashable, Any] | None]]
    pairs: list[Pair]
    answers: list[Answer]
    improved: list[Change]
    worsened: list[Change]


@dataclass(frozen=True)
class ClassView:
    """One test class in the test domain: accuracy by mixture (mean over seeds), and images."""

    name: str
    n: int
    accuracy: dict[str, float]
    examples: list[Example]


def mixtures(study: Results, read: Read) -> list[MixtureView]:
    """Describe every mixture of a study."""
    frame = summary.estimates(study)
    frame = frame[frame["metric"] == summary.PRIMARY].set_index(["mixture", "domain", "cells"])
    measured = dict(zip(frame.index, frame.to_dict("records"), strict=True))
    rows = held_out(study)
    ranks = _ranks(rows)
    views = []
    for mixture in study.mixtures:
        mine = rows[rows["mixture"] == mixture]
        cells = {domain: _cells(study, domain) for domain in study.domains}
        found = {domain: [measured.get((mixture, domain, kind)) for kind in cells[domain]] for domain in study.domains}
        changes: dict[bool, list[Change]] = {True: [], False: []}
        if study.baseline not in (None, mixture):
            changes = {won: _changes(study, ranks, mixture, won, read) for won in (True, False)}
        views.append(MixtureView(mixture, found, confused(mine, read), answers(mine), changes[True], changes[False]))
    return views


def _cells(study: Results, domain: str) -> tuple[str, str, str]:
    return ("held_out" if domain == study.test_domain else "tested", "seen", "all")


def confused(rows: pd.DataFrame, read: Read) -> list[Pair]:
    """Return the pairs that a mixture confuses most: by count, then by how far off the truth was (its mean rank).

    Args:
        rows: predictions of one mixture, of all seeds.
        read: gives the encoded image of a row.
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
    """Return the geometric mean over seeds of the true class's rank: a row an image, a column a mixture."""
    table = rows.assign(log=np.log(rows["rank"])).pivot_table(index="row", columns="mixture", values="log")
    return table.apply(np.exp)


def _changes(study: Results, ranks: pd.DataFrame, mixture: str, won: bool, read: Read) -> list[Change]:
    """Return the images that a mixture always reads and the baseline put farthest off (`won`), or vice versa."""
    before, after = ranks[study.baseline], ranks[mixture]
    good, bad = (after, before) if won else (before, after)
    worst = bad[(good == 1) & (bad > 1)].sort_values(ascending=False, kind="stable").head(CHANGES)
    chosen = [int(row) for row in worst.index]
    examples = load(study, chosen, read, thumbnail)
    return [
        Change(example, float(before[row]), float(after[row])) for row, example in zip(chosen, examples, strict=True)
    ]


def classes(study: Results, read: Read) -> list[ClassView]:
    """Describe every test class, by name; each shows as many of its first images as all together may take."""
    table = summary.class_table(study)
    rows = held_out(study)
    each = min(MOST, max(1, IMAGES // max(1, len(table))))
    images = {name: sorted(part["row"].unique().tolist()) for name, part in rows.groupby("class")}
    chosen = {name: found[:each] for name, found in images.items()}
    examples = iter(load(study, [row for found in chosen.values() for row in found], read, thumbnail))
    return [
        ClassView(
            name=spaced(str(name)),
            n=len(images[name]),
            accuracy={str(mixture): float(value) for mixture, value in table.loc[name].items()},
            examples=[next(examples) for _ in chosen[name]],
        )
        for name in chosen
    ]
