"""Whether what models share predicts what they read: rank correlations with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from domix.figures.charts import Bar, Mark, forest
from domix.figures.look import Drawing, Look
from domix.runtime.wording import MINUS

NO_RELATION = Mark(0.0, "no relation", (2, 3))


def relation_bars(rows: pd.DataFrame, labels: Sequence[str]) -> list[Bar]:
    """Return the bars of rows of domix.report.tables.claim.relations, by the words for each."""
    values = rows[["estimate", "low", "high"]].itertuples(index=False)
    return [Bar(label, *row) for label, row in zip(labels, values, strict=True)]


def draw_relations(look: Look, bars: Sequence[Bar]) -> Drawing:
    """Draw the correlations."""
    return forest(look, bars, [NO_RELATION], correlation, "Spearman's correlation", ticks=_ticks)


def correlation(value: float) -> str:
    """Write a correlation, with its sign."""
    return f"{value:+.2f}".replace("-", MINUS)


def _ticks(values: Sequence[float]) -> list[str]:
    return [f"{value:g}".replace("-", MINUS) for value in values]
