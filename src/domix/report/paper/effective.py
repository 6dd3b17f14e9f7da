"""Effective robustness: accuracy on the withheld cells against accuracy on natural pictures, checkpoint by checkpoint.

Axes are transformed as the fit was (logit, as a rule), so that the reference curve is a straight line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.special import expit, logit, ndtr, ndtri

from domix.report.paper import ink
from domix.report.paper.collection import Collection
from domix.report.paper.drawn import Drawn

SCALES: dict[str, Any] = {"logit": (logit, expit), "probit": (ndtri, ndtr)}
TICKS = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999])
MOST_TICKS = 6
LEAST = 1e-4  # accuracies nearer to 0 or 1 have no place on the axes


def draw(study: Collection) -> list[Drawn]:
    """Draw one figure for each accuracy that stands on the x axis."""
    frame = study.tables["effective"]
    inside = frame[["x", "y"]].gt(LEAST).all(axis=1) & frame[["x", "y"]].lt(1 - LEAST).all(axis=1)
    frame = frame[(frame["kind"] == "clip") & inside]
    if frame.empty:
        why = (
            "There is no reference curve: keep checkpoints (train.checkpoints), embed them (embed.checkpoints: true),"
            " and have natural-only among the mixtures."
        )
        return [Drawn("effective-robustness", "Effective robustness", why)]
    kinds = frame[["x_name", "transform"]].drop_duplicates().itertuples(index=False)
    figures, first = [], ""
    for number, (x_name, transform) in enumerate(kinds):
        first = first or transform
        if transform == first:
            chosen = frame[(frame["x_name"] == x_name) & (frame["transform"] == transform)]
            name = "effective-robustness" if number == 0 else f"effective-robustness-{number + 1}"
            figures.append(_draw(study, chosen, name, str(x_name), str(transform)))
    return figures


def _draw(study: Collection, frame: pd.DataFrame, name: str, x_name: str, transform: str) -> Drawn:
    domains = [domain for domain in study.test_domains if (frame["test_domain"] == domain).any()]
    names = [mixture for mixture in study.main("clip") if (frame["mixture"] == mixture).any()]
    styles = ink.looks(study.mixtures)
    figure, axes = ink.panels(domains, 52, study.mark)
    for place, (panel, domain) in enumerate(zip(axes, domains, strict=True)):
        rows = frame[frame["test_domain"] == domain]
        _panel(panel, rows, [mixture for mixture in names if (rows["mixture"] == mixture).any()], styles, transform)
        panel.set_xlabel(f"{_spoken(x_name)}, %")
        if place % 3 == 0:
            panel.set_ylabel("balanced top-1, %\nwithheld cells")
    reference = Line2D([], [], color=ink.INK, lw=0.9, label=f"fit to {frame['reference'].iloc[0]}")
    ink.key(figure, names, styles, lines=True, extra=[reference])
    caption = (
        f"Effective robustness on {transform} axes: each line is a mixture's way through its checkpoints, mean over"
        " seeds; the large markers are the seeds' last checkpoints; checkpoints that read nothing have no place. The"
        " black line is fitted to all checkpoints of the reference mixture, its band is from a bootstrap; the height"
        " above it is effective robustness."
    )
    return Drawn(name, "Effective robustness", caption, figure)


def _spoken(x_name: str) -> str:
    """Write what stands on the x axis: "real tested balanced_top1" in words."""
    words = x_name.removesuffix(" tested balanced_top1")
    return x_name.replace("_", " ") if words == x_name else f"balanced top-1 on {words} (test classes)"


def _panel(axes: Axes, rows: pd.DataFrame, names: Sequence[str], styles: dict[str, ink.Look], transform: str) -> None:
    curve = rows.sort_values("x", kind="stable")
    low, middle, high = (curve[column].clip(LEAST, 1 - LEAST) for column in ("low", "expected", "high"))
    axes.fill_between(curve["x"], low, high, color=ink.MUTE, alpha=0.2, lw=0)
    axes.plot(curve["x"], middle, color=ink.INK, lw=0.9, zorder=2)
    for name in names:
        look, mine = styles[name], rows[rows["mixture"] == name]
        way = mine.groupby("checkpoint")[["x", "y"]].mean()
        last = mine[mine["checkpoint"] == mine.groupby("seed")["checkpoint"].transform("max")]
        axes.plot(way["x"], way["y"], color=look.colour, ls=look.line, zorder=3)
        axes.plot(way["x"].iloc[:-1], way["y"].iloc[:-1], ls="", marker=".", ms=3, color=look.colour, mew=0, zorder=3)
        axes.plot(last["x"], last["y"], ls="", zorder=4, **look.marks(4.0))
    for axis, column in (("x", "x"), ("y", "y")):
        _scale(axes, axis, rows[column], transform)


def _scale(axes: Axes, axis: str, values: pd.Series, transform: str) -> None:
    """Set an axis to the transformed scale, from a little below the least value to a little above the greatest."""
    one = axes.xaxis if axis == "x" else axes.yaxis
    limits = axes.set_xlim if axis == "x" else axes.set_ylim
    if transform not in SCALES:
        limits(0, float(values.max()) * 1.08)
        ink.percent_axis(one)
        return
    forward, backward = SCALES[transform]
    (axes.set_xscale if axis == "x" else axes.set_yscale)(
        "function", functions=(lambda v: forward(np.clip(v, LEAST, 1 - LEAST)), backward)
    )
    low, high = forward(float(values.min())), forward(float(values.max()))
    room = max(0.06 * (high - low), 0.15)
    low, high = backward(low - room), backward(high + room)
    limits(low, high)
    ticks = TICKS[(low <= TICKS) & (high >= TICKS)]
    ink.percent_axis(one, ticks[:: -(-len(ticks) // MOST_TICKS)] if len(ticks) else [])
