"""Tables of pairs of domains, `domain_a` and `domain_b`, each of which may be written one way only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from domix.study import Study

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["mixture", "domain_a", "domain_b"]
TURNED = {"domain_a": "domain_b", "domain_b": "domain_a"}


def with_domain(pairs: pd.DataFrame, domain: str) -> pd.Series:
    """Tell which pairs hold a domain."""
    return (pairs["domain_a"] == domain) | (pairs["domain_b"] == domain)


def both_ways(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs of each `mixture`, and below them the same turned round, every ordered pair once."""
    import pandas as pd

    turned = pairs.rename(columns=TURNED)[pairs.columns]
    return pd.concat([pairs, turned], ignore_index=True).drop_duplicates(KEYS)


def square(pairs: pd.DataFrame, domains: Sequence[str], value: str = "value") -> pd.DataFrame:
    """Return a column of the pairs as a table of every domain with every domain; NaN where there is none."""
    wide = pairs.pivot(index="domain_a", columns="domain_b", values=value)
    wide = wide.reindex(index=list(domains), columns=list(domains))
    return wide.combine_first(wide.T).reindex(index=list(domains), columns=list(domains))


def class_scores(study: Study, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return what each model shares between the test domain and the others, class by class (contract.SCORE).

    Args:
        pairs: a `value` for pairs of domains of each `class` of a run.
    """
    tested = pairs[with_domain(pairs, study.test_domain)]
    means = tested.groupby(["mixture", "seed", "class"], sort=False, as_index=False)["value"].mean()
    return means.rename(columns={"value": "score"})
