"""`domix effective`: effective robustness of models in a table (docs/effective-robustness.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from domix.evaluate.baselines import effective_table, fitted_trends, read_accuracies, shipped_trends, wide_table
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_text
from domix.runtime.tables import as_csv


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says."""

    table: Path
    baselines: Path | None = None
    transform: Literal["logit", "probit", "linear"] = "logit"
    matched: bool = False
    pivot: bool = False
    out: Path | None = None


def main(asked: Asked) -> None:
    """Print the table, or write it below a folder.

    Raises:
        ParameterError: the shipped trends are on other axes.
        DataError: the table cannot be used.
    """
    if asked.baselines is None and asked.transform != "logit":
        raise ParameterError(f"--transform {asked.transform} needs --baselines: the shipped trends are on logit axes")
    choices = {"matched": asked.matched, "pivot": asked.pivot}
    if asked.baselines is None:
        trends = shipped_trends(**choices)
    else:
        trends = fitted_trends(read_accuracies(asked.baselines), asked.transform, **choices)
    effective = effective_table(read_accuracies(asked.table), trends)
    if effective.empty:
        raise DataError(f"{asked.table} has no model with an accuracy on ImageNet and under one of {', '.join(trends)}")
    text = markdown(wide_table(effective))
    if asked.out is None:
        print(text)
    else:
        write_text(asked.out / "effective.md", text + "\n")
        write_text(asked.out / "effective.csv", as_csv(effective.round(5)))
        print(f"effective robustness of {effective['model'].nunique()} models: {asked.out / 'effective.csv'}")


def markdown(wide: pd.DataFrame) -> str:
    """Return a table of percentage points, one row a model."""
    lines = [f"| model | {' | '.join(wide.columns)} |", f"|---|{'---:|' * len(wide.columns)}"]
    for model, row in wide.iterrows():
        lines.append(f"| {model} | {' | '.join('' if pd.isna(value) else f'{value:+.1f}' for value in row)} |")
    return "\n".join(lines)
