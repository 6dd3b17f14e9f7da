"""The runs of a study as a section shows them: each mixture's first seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from domix.study import Study

if TYPE_CHECKING:
    import pandas as pd


def first_seeds(study: Study, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each mixture's first seed, from a table with the columns mixture and seed."""
    seeds: dict[str, int] = {}
    for run in study.runs:
        seeds.setdefault(run.mixture, run.seed)
    return frame[frame["seed"] == frame["mixture"].map(seeds)]
