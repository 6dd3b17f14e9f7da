"""The figures over checkpoints: learning curves, and effective robustness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from markupsafe import Markup

from domix.evaluate.effective import Transform, forward
from domix.report import beside, tables, words
from domix.report.figures import PANEL
from domix.report.further import CLIP
from domix.report.study import Results
from domix.report.style import ACCENT, GRID, MUTE, SMALL, Canvas, scale, ticks

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
NEAREST = 5e-4  # shares nearer to 0 or 1 are drawn there: a logit axis has no end
LEFT, RIGHT, TOP, BOTTOM, HEIGHT = 38.0, PANEL - 12.0, 10.0, 172.0, 212.0


def learning(study: Results) -> list[tuple[str, list[tuple[str, Markup]]]]:
    """Draw balanced accuracy over checkpoints: (panel of `tables.panels`, a figure a mixture); [] without them."""
    frame = study.further.curves
    frame = frame[(frame["kind"] == CLIP) & (frame["metric"] == tables.PRIMARY)]
    drawn = []
    for name, domain, cells in tables.panels(study):
        rows = frame[(frame["domain"] == domain) & (frame["cells"] == cells)]
        if rows["checkpoint"].nunique() > 1:
            drawn.append((name, _learning(study, rows)))
    return drawn


def _learning(study: Results, rows: pd.DataFrame) -> list[tuple[str, Markup]]:
    x_grid, y_grid = ticks(0, rows["checkpoint"].max(), 5), ticks(0, rows["estimate"].max(), 5)
    means = rows.groupby(["mixture", "checkpoint"], sort=True)["estimate"].mean()
    known = [mixture for mixture in study.mixtures if mixture in means]
    return [(mixture, _learning_panel(rows, means, mixture, x_grid, y_grid)) for mixture in known]


def _learning_panel(
    rows: pd.DataFrame, means: pd.Series, mixture: str, x_grid: list[float], y_grid: list[float]
) -> Markup:
    x, y = scale(x_grid[0], x_grid[-1], LEFT, RIGHT), scale(y_grid[0], y_grid[-1], BOTTOM, TOP)
    last = float(means[mixture].iloc[-1])
    canvas = Canvas(PANEL, HEIGHT, f"Balanced accuracy of {mixture} over epochs, at the end {words.percent(last)}.")
    for tick in y_grid:
        canvas.line(LEFT, y(tick), RIGHT, y(tick))
        canvas.text(LEFT - 6, y(tick) + 4, f"{tick * 100:g}", text_anchor="end", font_size=SMALL, fill=MUTE)
    for tick in x_grid:
        canvas.text(x(tick), BOTTOM + 16, f"{tick:g}", text_anchor="middle", font_size=SMALL, fill=MUTE)
    canvas.text((LEFT + RIGHT) / 2, BOTTOM + 33, "epochs", text_anchor="middle", font_size=SMALL, fill=MUTE)
    for other in means.index.unique("mixture"):
        if other != mixture:
            canvas.curve(_points(means[other], x, y), GRID, stroke_width=1.5)
    mine = rows[rows["mixture"] == mixture]
    if mine["seed"].nunique() > 1:
        for seed, part in mine.groupby("seed"):
            series = part.sort_values("checkpoint").set_index("checkpoint")["estimate"]
            canvas.curve(_points(series, x, y), ACCENT, stroke_width=1, stroke_opacity=0.5, tip=f"seed {seed}")
    canvas.curve(_points(means[mixture], x, y), ACCENT, stroke_width=2.5)
    return canvas.render()


def _points(series: pd.Series, x: Callable[[float], float], y: Callable[[float], float]) -> list[tuple[float, float]]:
    """Return the points of a curve: its index across, its values up."""
    return [(x(place), y(value)) for place, value in zip(series.index, series, strict=True) if not np.isnan(value)]


@dataclass(frozen=True)
class Trend:
    """Effective robustness on one pair of accuracies: figures, and a row of the last checkpoint's means a model."""

    x_name: str
    y_name: str
    transform: str
    reference: str
    panels: list[tuple[str, Markup]]
    rows: list[dict[str, object]]


def effective(study: Results) -> list[Trend]:
    """Draw every mixture's accuracies over checkpoints beside the reference's trend; [] where there is no trend.

    Figures are of CLIP models; other models stand in the rows.
    """
    trends = []
    keys = ["x_name", "y_name", "transform", "reference"]
    for key, rows in study.further.effective.groupby(keys, sort=False):
        x_name, y_name, transform, reference = cast("tuple[str, str, Transform, str]", key)
        mine = rows[rows["kind"] == CLIP]
        if mine.empty:
            continue
        known = [mixture for mixture in study.mixtures if mixture in set(mine["mixture"])]
        axes = _Axes(mine, transform)
        panels = [(mixture, axes.panel(mine, mixture, reference)) for mixture in known]
        trends.append(Trend(x_name, y_name, transform, reference, panels, _last(rows)))
    return trends


def _last(rows: pd.DataFrame) -> list[dict[str, object]]:
    """Return the last checkpoint of each model, mean over seeds."""
    last = rows[rows["checkpoint"] == rows.groupby(["kind", "mixture", "seed"])["checkpoint"].transform("max")]
    groups = last.groupby(["kind", "mixture"], sort=False)
    means = groups[["x", "y", "expected", "low", "high"]].mean().join(groups["seed"].agg(seeds="nunique")).reset_index()
    return [
        {"model": beside.model_name(row["kind"], row["mixture"]), "above": row["y"] - row["expected"]} | row.to_dict()
        for _, row in means.iterrows()
    ]


class _Axes:
    """Two transformed axes of shares, wide enough for all rows."""

    def __init__(self, rows: pd.DataFrame, transform: Transform) -> None:
        self.rows, self.transform = rows, transform
        up = rows[["y", "expected", "low", "high"]].to_numpy(dtype=float)
        self.x_ticks, self.x = self._axis(rows["x"].to_numpy(dtype=float), LEFT, RIGHT)
        self.y_ticks, self.y = self._axis(up, BOTTOM, TOP)

    def _axis(self, values: np.ndarray, start: float, end: float) -> tuple[list[float], Callable[[float], float]]:
        """Return the round shares within the values' range, at most six, and the place of a share."""
        kept = np.clip(values[~np.isnan(values)], NEAREST, 1 - NEAREST)
        low, high = (float(forward(value, self.transform)) for value in (kept.min(), kept.max()))
        place = scale(low, high, start, end)
        inside = [share for share in SHARES if low <= float(forward(share, self.transform)) <= high]
        return inside[:: -(-len(inside) // 6) or 1], lambda share: place(self._moved(share))

    def _moved(self, share: float) -> float:
        return float(forward(min(max(share, NEAREST), 1 - NEAREST), self.transform))

    def panel(self, rows: pd.DataFrame, mixture: str, reference: str) -> Markup:
        """Draw one mixture over the reference's trend and its band."""
        mine = rows[rows["mixture"] == mixture].sort_values(["seed", "checkpoint"])
        end = mine[mine["checkpoint"] == mine["checkpoint"].max()]
        above = words.points(float((end["y"] - end["expected"]).mean()))
        canvas = Canvas(PANEL, HEIGHT, f"{mixture} at the end lies {above} points above the trend of {reference}.")
        self._frame(canvas)
        trend = self.rows.drop_duplicates("x").sort_values("x")
        self._band(canvas, trend)
        canvas.curve(self._line(trend["x"], trend["expected"]), MUTE, stroke_width=1.5, stroke_dasharray="6 4")
        for seed, part in mine.groupby("seed"):
            points = self._line(part["x"], part["y"])
            canvas.curve(points, ACCENT, stroke_width=1.2, stroke_opacity=0.6, tip=f"seed {seed}")
            canvas.dots(points, ACCENT, 4)
            canvas.dots(points[-1:], ACCENT, 9)
        return canvas.render()

    def _frame(self, canvas: Canvas) -> None:
        for share in self.y_ticks:
            canvas.line(LEFT, self.y(share), RIGHT, self.y(share))
            canvas.text(LEFT - 6, self.y(share) + 4, f"{share * 100:g}", text_anchor="end", font_size=SMALL, fill=MUTE)
        for share in self.x_ticks:
            canvas.line(self.x(share), TOP, self.x(share), BOTTOM)
            middle = {"text_anchor": "middle", "font_size": SMALL, "fill": MUTE}
            canvas.text(self.x(share), BOTTOM + 16, f"{share * 100:g}", **middle)
        middle = {"text_anchor": "middle", "font_size": SMALL, "fill": MUTE}
        canvas.text((LEFT + RIGHT) / 2, BOTTOM + 33, "accuracy across, %", **middle)

    def _band(self, canvas: Canvas, trend: pd.DataFrame) -> None:
        known = trend[trend["low"].notna() & trend["high"].notna()]
        if len(known) > 1:
            edge = self._line(known["x"], known["low"]) + self._line(known["x"], known["high"])[::-1]
            path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in edge) + "Z"
            canvas.add("path", d=path, fill=MUTE, fill_opacity=0.18, stroke="none")

    def _line(self, across: Sequence[float] | pd.Series, up: Sequence[float] | pd.Series) -> list[tuple[float, float]]:
        return [(self.x(a), self.y(b)) for a, b in zip(across, up, strict=True) if not np.isnan(a) and not np.isnan(b)]
