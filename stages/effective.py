"""Effective robustness of models in a table: `python -m stages.effective <accuracies.csv> [--baselines <table.csv>]`.

A command, no stage of the pipeline. What tables it reads and what the numbers mean: docs/effective-robustness.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from domix.config import Params
from domix.evaluate.baselines import effective_table, fitted_trends, read_accuracies, shipped_trends, wide_table
from domix.evaluate.effective import TRANSFORMS
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_text
from stages.common import run


def main(params: Params, *arguments: str) -> None:
    """Print the table, or write it below a folder."""
    asked = _parse(list(arguments))
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
        write_text(asked.out / "effective.csv", effective.round(5).to_csv(index=False, lineterminator="\n"))
        print(f"effective robustness of {effective['model'].nunique()} models: {asked.out / 'effective.csv'}")


def markdown(wide: pd.DataFrame) -> str:
    """Return a table of percentage points, one row a model."""
    lines = [f"| model | {' | '.join(wide.columns)} |", f"|---|{'---:|' * len(wide.columns)}"]
    for model, row in wide.iterrows():
        lines.append(f"| {model} | {' | '.join('' if pd.isna(value) else f'{value:+.1f}' for value in row)} |")
    return "\n".join(lines)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.effective", description="Effective robustness of models.")
    parser.add_argument("table", type=Path, help="accuracies: a CSV file, or artifacts/eval/robustness.parquet")
    parser.add_argument("--baselines", type=Path, help="imagenet-testbed's robustness_top1s.csv, to fit trends anew")
    parser.add_argument("--transform", choices=TRANSFORMS, default="logit", help="of the axes (default: logit)")
    parser.add_argument("--matched", action="store_true", help="expect from ImageNet's pictures of a shift's classes")
    parser.add_argument("--pivot", action="store_true", help="two lines for ImageNet-A")
    parser.add_argument("--out", type=Path, help="folder for effective.csv and effective.md, instead of printing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run(main, timed=False)
