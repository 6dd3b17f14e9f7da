"""The section that an analysis makes of tables, checked and drawn, of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from domix.analyses.contract import AnalysisResults, Section, Shared
from domix.analyses.registry import find
from domix.figures import page
from domix.runs import Run
from domix.study import Study

MIXTURES = ["natural-only", "cg-low", "leave-out-domain", "cg-high", "cg-high-all"]
SHARED = Shared(confidence=0.9, near_bits=6, drop="none", batch=16)


def study(seeds: int = 1, mixtures: Sequence[str] = MIXTURES) -> Study:
    """Return a study of CLIP models, `sketch` its test domain."""
    runs = tuple(Run("clip", mixture, seed) for mixture in mixtures for seed in range(seeds))
    names = {name: name for name in mixtures}
    return Study("sketch", "real", ("a",), ("clipart", "real", "sketch"), ("a", "b"), runs, names)


def section(name: str, tables: dict[str, pd.DataFrame], asked: Study | None = None, **settings: Any) -> Section:
    """Return the section, whose tables are those declared and whose figures can all be drawn."""
    analysis = find(name)
    for schema in analysis.written():
        schema.check(tables[schema.name], schema.name)
    results = AnalysisResults(tables, {}, analysis.Settings(**settings), SHARED, None)  # ty: ignore[invalid-argument-type]
    made = analysis.section(results, asked or study())
    for part in made.parts:
        for figures in (part.figures, *part.folded.values()):
            assert all("<svg" in page.svg(figure) for figure in figures.values())
    return made
