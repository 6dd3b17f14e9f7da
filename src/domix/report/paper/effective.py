"""Effective robustness: accuracy on the held-out cells against accuracy on natural images, checkpoint by checkpoint.

Axes are transformed as the fit was (logit, as a rule), so that the reference curve is a straight line.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import matplotlib.figure
import pandas as pd
from matplotlib.lines import Line2D

from domix.evaluate.effective import Transform
from domix.figures.figure import Figure
from domix.figures.look import MM, Look
from domix.report.figures.effective import draw_trend
from domix.report.paper.collection import Collection
from domix.report.paper.sheets import Absent, Shown, handles_of, lines_of, panels
from domix.report.tables import plot_data

HEIGHT = 52 * MM
LEAST = 1e-4  # accuracies nearer to 0 or 1 have no place on the axes


def figures(study: Collection) -> Shown:
    """Return one figure for each accuracy that stands on the x axis."""
    frame = plot_data.checkpoints(study.tables["effective"])
    frame = frame[frame[["x", "y"]].gt(LEAST).all(axis=1) & frame[["x", "y"]].lt(1 - LEAST).all(axis=1)]
    if frame.empty:
        why = (
            "There is no reference curve: keep checkpoints (train.checkpoints), embed them (embed.checkpoints: true),"
            " and have natural-only among the mixtures."
        )
        return [Absent("effective-robustness", "Effective robustness", why)]
    kinds = [kind for kind, _ in frame.groupby(["x_name", "transform"], sort=False)]
    found = []
    for number, (x_name, transform) in enumerate(kinds):
        if transform == kinds[0][1]:
            rows = frame[(frame["x_name"] == x_name) & (frame["transform"] == transform)]
            name = "effective-robustness" if number == 0 else f"effective-robustness-{number + 1}"
            found.append(_figure(study, rows, name, str(x_name), cast("Transform", transform)))
    return found


def _figure(study: Collection, rows: pd.DataFrame, name: str, x_name: str, transform: Transform) -> Figure:
    caption = (
        f"Effective robustness on {transform} axes: each line is a mixture's way through its checkpoints, mean over"
        " seeds; the large markers are the seeds' last checkpoints; checkpoints that read nothing have no place. The"
        " dashed line is fitted to all checkpoints of the reference mixture, its band is from a bootstrap; the height"
        " above it is effective robustness."
    )
    draw = partial(_draw, study, rows, x_name, transform)
    return Figure(name, "Effective robustness", caption, caption, draw)


def _draw(
    study: Collection, rows: pd.DataFrame, x_name: str, transform: Transform, look: Look
) -> matplotlib.figure.Figure:
    domains = [domain for domain in study.test_domains if (rows["test_domain"] == domain).any()]
    names = [mixture for mixture in study.main("clip") if (rows["mixture"] == mixture).any()]
    lines = lines_of(study.mixtures, look.stroke)
    reference = f"fit to {rows['reference'].iloc[0]}"
    trend = Line2D([], [], color=look.mute, lw=0.75 * look.stroke, ls=(0, (4, 2.7)), label=reference)
    margins = (6.5 * look.small, 2.2 * look.small, 1.2 * look.small, 3.8 * look.small)
    handles = [*handles_of(look, lines, names), trend]
    figure, made = panels(look, domains, HEIGHT, margins, handles, study.mark)
    for place, (panel, domain) in enumerate(zip(made, domains, strict=True)):
        mine = rows[rows["test_domain"] == domain]
        there = {name: lines[name] for name in names if (mine["mixture"] == name).any()}
        titles = (f"{_spoken(x_name)}, %", "balanced top-1, %\nheld-out cells" if place % 3 == 0 else "")
        draw_trend(panel, mine, there, transform, titles)
    return figure


def _spoken(x_name: str) -> str:
    """Write what stands on the x axis: "real tested balanced_top1" in words."""
    words = x_name.removesuffix(" tested balanced_top1")
    return x_name.replace("_", " ") if words == x_name else f"balanced top-1 on {words} (test classes)"
