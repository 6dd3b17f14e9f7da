"""Curves over training: the loss, and accuracy at the checkpoints that training kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

import matplotlib.figure
import pandas as pd

from domix.figures.charts import Line, band, curve
from domix.figures.figure import Figure
from domix.figures.look import Look
from domix.figures.panel import Panel, panel, percent_labels, round_ticks, short, ticks_within
from domix.report.load.study import Results
from domix.report.tables import plot_data, summary, words

HEIGHT = 0.63  # of a panel, in its widths


def losses(study: Results) -> list[tuple[str, Figure]]:
    """Return each mixture's training loss over samples seen, the others' in grey behind it; nothing without a log."""
    frame = plot_data.loss(study)
    ends = (float(frame["samples"].max()), float(frame["loss"].quantile(0.999)))
    found = []
    for mixture in study.mixtures:
        mine = frame[frame["mixture"] == mixture]
        if mine.empty:
            continue
        last = mine.groupby("seed")["loss"].last().mean()
        said = f"Training loss of {mixture}, at the end {last:.2f}."
        draw = partial(_draw_loss, frame, mixture, ends)
        found.append(
            (mixture, Figure(f"loss-{mixture}", f"Training loss of {mixture}", "Contrastive loss.", said, draw))
        )
    return found


def _draw_loss(frame: pd.DataFrame, mixture: str, ends: tuple[float, float], look: Look) -> matplotlib.figure.Figure:
    made = small_panel(look, (ends[0], short, "samples seen"), (ends[1], lambda value: f"{value:g}"))
    top = made.up[1]
    for keys, run in frame.groupby(["mixture", "seed"], sort=False):
        name, seed = cast("tuple[str, int]", keys)
        line = highlighted(look, str(name) == mixture)
        tip = f"seed {seed}" if name == mixture else str(name)
        curve(made, run["samples"], run["loss"].clip(upper=top), line, tip)
    return made.figure


def learning(study: Results) -> list[tuple[str, list[tuple[str, Figure]]]]:
    """Return balanced accuracy over checkpoints: (panel of `summary.panels`, a figure a mixture).

    Empty where no training kept more than its last checkpoint.
    """
    frame, found = plot_data.curves(study), []
    for name, _, _ in summary.panels(study):
        rows = frame[frame["images"] == name]
        if len(rows):
            curves = over_seeds(rows.rename(columns={"checkpoint": "x"}))
            known = [mixture for mixture in study.mixtures if (curves["mixture"] == mixture).any()]
            found.append((name, [(mixture, _curve(name, mixture, curves)) for mixture in known]))
    return found


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the curve of each mixture, mean, least and greatest over seeds: `mixture, x, y, low, high`.

    `rows` holds `mixture, x, estimate`.
    """
    groups = rows.groupby(["mixture", "x"], sort=True)["estimate"]
    return groups.agg(y="mean", low="min", high="max").reset_index()


def _curve(name: str, mixture: str, curves: pd.DataFrame) -> Figure:
    last = float(curves.loc[curves["mixture"] == mixture, "y"].iloc[-1])
    said = f"Balanced accuracy of {mixture} over epochs, at the end {words.percent(last)}."
    draw = partial(_draw_curve, curves, mixture)
    title = f"Balanced accuracy of {mixture} over training ({name})"
    return Figure(f"learning-{name}-{mixture}", title, "Balanced accuracy in per cent.", said, draw)


def _draw_curve(curves: pd.DataFrame, mixture: str, look: Look) -> matplotlib.figure.Figure:
    def label(value: float) -> str:
        return percent_labels([value])[0]

    made = small_panel(look, (curves["x"].max(), lambda x: f"{x:g}", "epochs"), (curves["high"].max(), label))
    lines = {str(name): highlighted(look, name == mixture) for name in curves["mixture"].unique()}
    draw_curves(made, curves, lines, banded=[mixture])
    return made.figure


def draw_curves(panel: Panel, curves: pd.DataFrame, lines: Mapping[str, Line], banded: Sequence[str]) -> None:
    """Draw curves of `over_seeds`; those of mixtures in `banded` with a band from the least to the greatest seed."""
    for mixture, line in lines.items():
        mine = curves[curves["mixture"] == mixture]
        if mixture in banded and (mine["high"] > mine["low"]).any():
            band(panel, mine["x"], mine["low"], mine["high"], line.colour)
        curve(panel, mine["x"], mine["y"], line, mixture)


def highlighted(look: Look, mine: bool) -> Line:
    """Return the line of a mixture that a panel is about, or of the others behind it."""
    return Line(look.accent, 1.1 * look.stroke, front=3) if mine else Line(look.grid, 0.7 * look.stroke)


Shown = Callable[[float], str]


def small_panel(look: Look, across: tuple[float, Shown, str], up: tuple[float, Shown]) -> Panel:
    """Return a panel whose axes run from 0: across to (end, label, title), up to (end, label)."""
    size = look.small
    made = panel(look, look.panel, HEIGHT * look.panel, (3.1 * size, 0.9 * size, 1.2 * size, 3.4 * size))
    x, y = ticks_within(across[0], 5), round_ticks(0, up[0], 5)
    made.limits((0, across[0] or 1.0), (0, y[-1]))
    made.mark_up(y, list(map(up[1], y)))
    made.mark_across(x, list(map(across[1], x)), across[2])
    return made
