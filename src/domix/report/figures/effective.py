"""Effective robustness: accuracy under a shift against accuracy without, checkpoint by checkpoint, over a trend.

Axes are transformed as the fit was, so that the trend of the reference is a straight line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import matplotlib.figure
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from domix.evaluate.effective import Transform, forward
from domix.figures.charts import Line, band, curve, dots, markers
from domix.figures.figure import Figure
from domix.figures.look import Look
from domix.figures.panel import Panel, panel, percent_labels
from domix.report.figures.learning import HEIGHT, highlighted
from domix.report.load.study import Results
from domix.report.tables import other_models, plot_data, words

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
MOST_TICKS = 6
NEAREST = 5e-4  # shares nearer to 0 or 1 are drawn there: a logit axis has no end


@dataclass(frozen=True)
class Trend:
    """Effective robustness on one pair of accuracies: (mixture, figure), and a row of the last checkpoint a model."""

    x_name: str
    y_name: str
    transform: str
    reference: str
    panels: list[tuple[str, Figure]]
    rows: list[dict[str, object]]


def effective(study: Results) -> list[Trend]:
    """Return every mixture's accuracies over checkpoints beside the reference's trend; [] where there is no trend.

    Figures are of CLIP models; other models stand in the rows.
    """
    trends = []
    keys = ["x_name", "y_name", "transform", "reference"]
    for number, (key, rows) in enumerate(study.further.effective.groupby(keys, sort=False)):
        x_name, y_name, transform, reference = cast("tuple[str, str, Transform, str]", key)
        mine = plot_data.checkpoints(rows)
        if mine.empty:
            continue
        known = [mixture for mixture in study.mixtures if mixture in set(mine["mixture"])]
        panels = [(m, _figure(f"effective-{number}-{m}", m, reference, mine, transform)) for m in known]
        trends.append(Trend(x_name, y_name, transform, reference, panels, _last(rows)))
    return trends


def _last(rows: pd.DataFrame) -> list[dict[str, object]]:
    """Return the last checkpoint of each model, mean over seeds."""
    last = rows[rows["checkpoint"] == rows.groupby(["kind", "mixture", "seed"])["checkpoint"].transform("max")]
    groups = last.groupby(["kind", "mixture"], sort=False)
    means = groups[["x", "y", "expected", "low", "high"]].mean().join(groups["seed"].agg(seeds="nunique")).reset_index()
    return [
        {"model": other_models.model_name(row["kind"], row["mixture"]), "above": row["y"] - row["expected"]}
        | row.to_dict()
        for _, row in means.iterrows()
    ]


def _figure(name: str, mixture: str, reference: str, rows: pd.DataFrame, transform: Transform) -> Figure:
    mine = rows[rows["mixture"] == mixture]
    end = mine[mine["checkpoint"] == mine["checkpoint"].max()]
    above = words.points(float((end["y"] - end["expected"]).mean()))
    said = f"{mixture} at the end lies {above} points above the trend of {reference}."
    title = f"Effective robustness of {mixture} on {transform} axes"
    draw = partial(_draw, rows, mixture, transform)
    return Figure(name, title, f"Dashed: the trend of {reference}.", said, draw)


def _draw(rows: pd.DataFrame, mixture: str, transform: Transform, look: Look) -> matplotlib.figure.Figure:
    size = look.small
    margins = (3.3 * size, 0.9 * size, 1.2 * size, 3.4 * size)
    made = panel(look, look.panel, 1.1 * HEIGHT * look.panel, margins)
    draw_trend(made, rows, {mixture: highlighted(look, True)}, transform, ("accuracy across, %", ""))
    return made.figure


def draw_trend(
    panel: Panel, rows: pd.DataFrame, lines: Mapping[str, Line], transform: Transform, titles: tuple[str, str]
) -> None:
    """Draw the trend with its band, and over it the way of each mixture in `lines`.

    A way is the mean over seeds, checkpoint by checkpoint, each a dot; the seeds' last checkpoints are large.

    Args:
        rows: `mixture, seed, checkpoint, x, y, expected, low, high`, all that the axes have to hold.
        titles: of the axes across and up.
    """
    look = panel.look
    ends = [_ends(rows[["x"]], transform), _ends(rows[["y", "expected"]], transform)]
    panel.limits(*ends)
    ticks = [_shares(end, transform) for end in ends]
    panel.mark_across(moved(ticks[0], transform).tolist(), percent_labels(ticks[0]), titles[0], lines=True)
    panel.mark_up(moved(ticks[1], transform).tolist(), percent_labels(ticks[1]), titles[1])
    trend = rows.drop_duplicates("x").sort_values("x", kind="stable")
    x, low, middle, high = (moved(trend[name], transform) for name in ("x", "low", "expected", "high"))
    band(panel, x, low.clip(*ends[1]), high.clip(*ends[1]), look.mute)
    curve(panel, x, middle, Line(look.mute, 0.75 * look.stroke, (0, (4, 2.7))), "trend")
    for mixture, line in lines.items():
        mine = rows[rows["mixture"] == mixture]
        way = mine.groupby("checkpoint")[["x", "y"]].mean()
        across, up = moved(way["x"], transform), moved(way["y"], transform)
        curve(panel, across, up, Line(line.colour, 0.75 * line.width, line.dashes, front=3), mixture)
        dots(panel, across, up, line.colour, 2.4 * look.stroke)
        last = mine[mine["checkpoint"] == mine.groupby("seed")["checkpoint"].transform("max")]
        _last_points(panel, moved(last["x"], transform), moved(last["y"], transform), line)


def _last_points(panel: Panel, x: NDArray[np.float64], y: NDArray[np.float64], line: Line) -> None:
    if not line.marker:
        dots(panel, x, y, line.colour, 4.5 * panel.look.stroke)
        return
    markers(panel, x, y, line, 3.6 * panel.look.stroke)


def moved(shares: ArrayLike, transform: Transform) -> NDArray[np.float64]:
    """Return the places of shares on a transformed axis."""
    return np.asarray(forward(np.clip(np.asarray(shares, dtype=float), NEAREST, 1 - NEAREST), transform))


def _ends(values: pd.DataFrame, transform: Transform) -> tuple[float, float]:
    places = moved(values.to_numpy(dtype=float), transform)
    low, high = float(np.nanmin(places)), float(np.nanmax(places))
    room = 0.04 * (high - low) if high > low else 0.5
    return low - room, high + room


def _shares(ends: tuple[float, float], transform: Transform) -> list[float]:
    """Return the round shares within the ends of an axis, at most MOST_TICKS."""
    inside = [share for share in SHARES if ends[0] <= moved(share, transform) <= ends[1]]
    return inside[:: -(-len(inside) // MOST_TICKS) or 1]
