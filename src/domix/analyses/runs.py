"""What sections take from tables of runs: each mixture's first seed, and the scores of classes."""

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


def class_scores(study: Study, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return what each model shares between the test domain and the others, class by class (contract.SCORE).

    Args:
        pairs: a `value` for pairs of domains `domain_a`, `domain_b` of each `class` of a run.
    """
    tested = (pairs["domain_a"] == study.test_domain) | (pairs["domain_b"] == study.test_domain)
    means = pairs[tested].groupby(["mixture", "seed", "class"], sort=False, as_index=False)["value"].mean()
    return means.rename(columns={"value": "score"})
