"""Accuracy class by class: as shades, and how many classes a mixture reads always, sometimes and never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib.figure
import pandas as pd

from domix.figures.charts import shade, shaded_table
from domix.figures.figure import Figure
from domix.figures.look import Look
from domix.figures.panel import gutter, panel, wrap
from domix.report.load.study import Results
from domix.report.tables import summary, words

ROW = 1.73  # height of a class, in sizes of small text
SHARES = ((1.0, "always"), (0.45, "sometimes"), (0.08, "never"))  # shade of each


def by_class(name: str, title: str, table: pd.DataFrame) -> Figure:
    """Return accuracies as a table of shades; `table` (of `summary.class_table`) has classes down, mixtures across."""
    shown = table.rename(index=lambda name: str(name).replace("_", " "))
    said = f"{title}: accuracy a class and mixture."
    return Figure(name, title, "Accuracy in per cent.", said, partial(_draw_classes, shown))


def _draw_classes(table: pd.DataFrame, look: Look) -> matplotlib.figure.Figure:
    return shaded_table(look, look.wide, table, in_percent, tip, row=ROW * look.small)


def in_percent(accuracy: float) -> str:
    """Write an accuracy into its cell."""
    return f"{accuracy * 100:.0f}"


def tip(name: str, mixture: str, accuracy: float) -> str:
    """Return what a pointer's rest on a cell shows."""
    return f"{name}, {mixture}: {words.percent(accuracy)}"


def class_shares(study: Results) -> Figure | None:
    """Return for each mixture how many held-out classes it reads always, sometimes and never; None without classes."""
    table = summary.class_table(study)
    if table.empty:
        return None
    counts = {mixture: _counts(table[mixture].dropna()) for mixture in map(str, table)}
    title = "Test classes read always, sometimes and never"
    said = "; ".join(f"{mixture} {'/'.join(map(str, count))}" for mixture, count in counts.items())
    return Figure("class-shares", title, "Numbers of test classes.", f"{title}: {said}.", partial(_draw_shares, counts))


def _counts(accuracy: pd.Series) -> tuple[int, int, int]:
    always, never = int((accuracy == 1).sum()), int((accuracy == 0).sum())
    return always, len(accuracy) - always - never, never


def _draw_shares(counts: Mapping[str, Sequence[int]], look: Look) -> matplotlib.figure.Figure:
    left, row = min(gutter(list(counts), look.text), 0.35 * look.wide), 2.3 * look.text
    made = panel(look, look.wide, row * len(counts) + 8, (left, 4, 8, 4))
    made.limits((0, 1), (len(counts), 0))
    for place, (mixture, count) in enumerate(counts.items()):
        lines, middle = wrap(mixture, left - look.small, look.text), place + 0.5 - 3 / row
        for number, line in enumerate(lines):
            made.label(middle + 0.45 * (number - (len(lines) - 1) / 2), line, fontsize=look.text)
        x, total = 0.0, max(sum(count), 1)
        for (strength, name), part in zip(SHARES, count, strict=True):
            width = part / total
            said = f"{mixture}: {part} of {total} classes {name}"
            written = str(part) if width * made.width > 2 * look.small else ""
            if part:
                shade(made, (x, place, width, 1 - 6 / row), strength, written, said)
            x += width
    return made.figure
