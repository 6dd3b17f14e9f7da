"""Tables as CSV with full numbers, and as Markdown and LaTeX (booktabs) with rounded ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from domix.runtime.files import write_text
from domix.runtime.tables import as_csv

ENDINGS = ("csv", "md", "tex")
PLACES = 6  # of the numbers in CSV files
PAGEFUL = 40  # rows beyond which a LaTeX table breaks over pages
_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}"}
_LATEX |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"}
_MARKDOWN = {"\\": "\\\\", "|": "\\|", "*": "\\*", "_": "\\_", "`": "\\`", "<": "&lt;", "[": "\\["}


@dataclass(frozen=True)
class Typeset:
    """A table to be read: its heads, which columns are numbers, its rows of text, and where groups of rows begin."""

    name: str
    title: str
    caption: str
    heads: list[str]
    right: list[bool]  # column is set flush right
    rows: list[list[str]]
    groups: list[int]  # positions of rows before which a rule stands


def write(table: Typeset, numbers: pd.DataFrame, folder: Path, mark: str = "") -> None:
    """Write one table as `<name>.csv`, `.md` and `.tex`; `mark` is added to the captions of an unfinished study."""
    write_text(folder / f"{table.name}.csv", as_csv(numbers.round(PLACES)))
    write_text(folder / f"{table.name}.md", markdown(table, mark))
    write_text(folder / f"{table.name}.tex", latex(table, mark))


def markdown(table: Typeset, mark: str = "") -> str:
    """Return a table in Markdown, below its caption."""
    rule = ["---:" if right else "---" for right in table.right]
    rows = [[_replace(cell, _MARKDOWN) for cell in row] for row in (table.heads, *table.rows)]
    lines = [f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:])]
    return f"{_marked(table.caption, mark)}\n\n" + "\n".join(lines) + "\n"


def latex(table: Typeset, mark: str = "") -> str:
    r"""Return a table for \input into a document that loads booktabs (and longtable, for more than PAGEFUL rows)."""
    columns = "".join("r" if right else "l" for right in table.right)
    head = " & ".join(escape_latex(cell) for cell in table.heads) + r" \\"
    body = []
    for place, row in enumerate(table.rows):
        cells = [_number(cell) if right else escape_latex(cell) for cell, right in zip(row, table.right, strict=True)]
        body += [r"\midrule"] * (place in table.groups) + [" & ".join(cells) + r" \\"]
    caption = rf"\caption{{{escape_latex(_marked(table.caption, mark))}}}"
    label = rf"\label{{tab:{table.name}}}"
    if len(table.rows) > PAGEFUL:
        opening = [rf"\begin{{longtable}}{{{columns}}}", rf"{caption}{label} \\", r"\toprule", head, r"\midrule"]
        opening += [r"\endfirsthead", r"\toprule", head, r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot"]
        lines = [*opening, *body, r"\end{longtable}"]
    else:
        opening = [r"\begin{table}", r"\centering", caption, label, rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines = [*opening, head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    needs = "booktabs, longtable" if len(table.rows) > PAGEFUL else "booktabs"
    return f"% needs: {needs}\n" + "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Return text as LaTeX shows it literally."""
    return _replace(text, _LATEX)


def _number(text: str) -> str:
    """Write a cell of numbers in LaTeX: hyphens before digits are minus signs."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escape_latex(text))


def percent(value: float) -> str:
    """Write a share in per cent, without the sign; nothing where there is none."""
    return "" if pd.isna(value) else f"{value * 100:.1f}"


def with_interval(estimate: float, low: float, high: float) -> str:
    """Write a share in per cent with its interval, where it has one."""
    return percent(estimate) if pd.isna(low) else f"{percent(estimate)} ({percent(low)} to {percent(high)})"


def p_value(value: float) -> str:
    """Write a p-value."""
    return "" if pd.isna(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def starts(values: Sequence[object]) -> list[int]:
    """Return the positions, but the first, at which a value differs from the one before."""
    return [place for place in range(1, len(values)) if values[place] != values[place - 1]]


def _marked(caption: str, mark: str) -> str:
    return f"{caption} ({mark[0].upper()}{mark[1:]}.)" if mark else caption


def _replace(text: str, table: dict[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in text)
