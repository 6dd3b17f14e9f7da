"""`domix headline`: the answer of the pipeline that was last run here, the accuracies, and where the report lies."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import cast

import pandas as pd

from domix.project.common import RUN_PAGE, load_params
from domix.report.load.study import load_results
from domix.report.tables import findings, summary

WIDTH = 100
COLUMNS = ("held_out", "seen", "natural")


def headline(root: Path) -> str:
    """Return the answer in words, a table of balanced accuracies and the report's path, as lines of text.

    Raises:
        DomixError: params.yaml or the results are missing or do not fit together.
    """
    params = load_params(root / "params.yaml")
    study = load_results(root / "artifacts", params.mixtures, params.seeds, params.evaluate.confidence)
    conclusion = findings.conclude(study)
    lines = [
        "",
        f"{conclusion.headline}.",
        *(line for found in conclusion.findings for line in ("", found.question, *_wrapped(found))),
        "",
        *([] if conclusion.findings else [*map(_filled, conclusion.more[:1]), ""]),
        _row("mixture", [column.replace("_", " ") for column in COLUMNS]),
    ]
    for row in summary.result_table(study):
        cells = [_accuracy(cast("pd.Series | None", row[column])) for column in COLUMNS]
        lines.append(_row(str(row["mixture"]), cells))
    lines += [
        f"(balanced accuracy, {study.confidence * 100:g} % interval: {study.test_domain}, classes held out and seen; "
        f"{study.natural_domain}, all classes)",
        "",
        f"The report: {(root / 'artifacts' / 'report' / 'index.html').resolve()}",
    ]
    if (root / RUN_PAGE).is_file():
        lines.append(f"With commit, times and rates of the run: {(root / RUN_PAGE).resolve()}")
    return "\n".join(lines)


def _wrapped(found: findings.Finding) -> list[str]:
    return [_filled(f"{found.answer}."), _filled(f"({found.numbers})")]


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _row(name: str, cells: tuple[str, ...] | list[str]) -> str:
    return f"  {name:<22}" + "".join(f"{cell:>26}" for cell in cells)


def _accuracy(row: pd.Series | None) -> str:
    return "-" if row is None else f"{row['estimate']:.1%} ({row['low']:.1%} to {row['high']:.1%})"
