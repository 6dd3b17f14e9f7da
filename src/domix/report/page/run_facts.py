"""What a page tells of the run that made it: commit, machine, times, rates. It is no part of the result.

Equal results give equal pages, so the page among the report stage's outputs leaves it out; a copy of the page has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

START, END = "<!-- run facts -->", "<!-- /run facts -->"  # between them a page has room for the facts


@dataclass(frozen=True)
class RunFacts:
    """Where and when results were made.

    Attributes:
        made: git_commit, git_dirty, experiment, machine.
        times: seconds that a stage instance took.
        rates: of trainings by their names (`clip/cg-high-s0`), as they went: columns `samples`, `samples_per_s`,
            `data_wait`, a row a row of the training's log.
    """

    made: Mapping[str, Any]
    times: Mapping[str, float] = field(default_factory=dict)
    rates: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def insert(html: str, facts: str) -> str:
    """Return a page with the facts, HTML, in the place that it has for them.

    Raises:
        ValueError: the page has no such place.
    """
    before, opened, rest = html.partition(START)
    _, closed, after = rest.partition(END)
    if not opened or not closed:
        raise ValueError(f"the page has no place between {START} and {END}")
    return before + facts + after


def mean_rates(rates: Mapping[str, pd.DataFrame]) -> list[tuple[str, float, float]]:
    """Return (training, samples a second, share of the time spent waiting for data) over each whole training."""
    found = []
    for name, rows in rates.items():
        seconds = rows["samples"].diff().fillna(rows["samples"]) / rows["samples_per_s"]
        whole = float(seconds.sum())
        waited = float((rows["data_wait"] * seconds).sum())
        found.append((name, float(rows["samples"].iloc[-1]) / whole, waited / whole))
    return found
