"""Show the result of the pipeline that was last run here: the answer, the accuracies, and where the report lies.

python tools/headline.py [FOLDER]      a repository in which the pipeline was run; the current folder by default
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import pandas as pd

from domix import config
from domix.report import tables, words
from domix.report.study import load_results
from domix.runtime.errors import DomixError

COLUMNS = ("withheld", "seen", "natural")


def headline(root: Path) -> str:
    """Return the answer in words, a table of balanced accuracies and the report's path, as lines of text.

    Raises:
        DomixError: params.yaml or the results are missing or do not fit together.
    """
    params = config.load((root / "params.yaml").read_text(encoding="utf-8"))
    study = load_results(root / "artifacts", params.mixtures, params.seeds, params.evaluate.confidence)
    conclusion = words.conclude(study)
    lines = ["", f"{conclusion.verdict}", conclusion.answer, "", _row("mixture", COLUMNS)]
    for row in tables.result_table(study):
        cells = [_accuracy(cast("pd.Series | None", row[column])) for column in COLUMNS]
        lines.append(_row(str(row["mixture"]), cells))
    lines += [
        f"(balanced accuracy, {study.confidence * 100:g} % interval: {study.test_domain}, classes withheld and seen; "
        f"{study.natural_domain}, all classes)",
        "",
        f"The report: {(root / 'artifacts' / 'report' / 'index.html').resolve()}",
    ]
    return "\n".join(lines)


def _row(name: str, cells: tuple[str, ...] | list[str]) -> str:
    return f"  {name:<22}" + "".join(f"{cell:>26}" for cell in cells)


def _accuracy(row: pd.Series | None) -> str:
    return "-" if row is None else f"{row['estimate']:.1%} ({row['low']:.1%} to {row['high']:.1%})"


def main() -> int:
    """Print the headline; return the exit code."""
    try:
        print(headline(Path(sys.argv[1]) if len(sys.argv) > 1 else Path()))
    except (DomixError, OSError) as error:
        print(f"headline: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
