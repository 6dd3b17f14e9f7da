"""Charts that several figures draw: curves, clouds of dots, shaded tables, estimates with intervals.

Each takes a panel or a look and plain numbers; what they mean is the caller's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from domix.figures.look import LETTER, Look
from domix.figures.panel import Panel, gutter, panel, percent_labels, round_ticks, wrap

HAIR = 1e-4  # points: far below what any format writes
ON_SHADE = 0.55  # from this share of the full shade on, text stands in the accent's counter-colour


@dataclass(frozen=True)
class Line:
    """How a curve is drawn."""

    colour: str
    width: float
    dashes: Any = "-"
    marker: str = ""
    hollow: bool = False
    alpha: float = 1.0
    front: int = 2  # what is higher lies on top

    def markers(self, look: Look, size: float) -> dict[str, Any]:
        """Return matplotlib's keywords of its markers; hollow ones are filled with paper."""
        face = look.paper if self.hollow else self.colour
        return {"marker": self.marker, "ms": size, "mfc": face, "mec": self.colour, "mew": look.stroke * 0.75}


def curve(panel: Panel, x: Iterable[float], y: Iterable[float], line: Line, tip: str = "") -> None:
    """Draw a curve through the points whose values are known."""
    known = np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])
    known = known[~np.isnan(known).any(axis=1)]
    if not len(known):
        return
    style: dict[str, Any] = {"color": line.colour, "lw": line.width, "ls": line.dashes, "alpha": line.alpha}
    markers = line.markers(panel.look, 2.8 * panel.look.stroke) if line.marker else {}
    drawn = Line2D(
        known[:, 0], known[:, 1], zorder=line.front, clip_on=False, solid_joinstyle="round", **style | markers
    )
    panel.add(drawn, tip)


def markers(panel: Panel, x: Iterable[float], y: Iterable[float], line: Line, size: float) -> None:
    """Draw a line's markers alone, of a size in points."""
    style = line.markers(panel.look, size)
    panel.add(Line2D(list(x), list(y), ls="", clip_on=False, zorder=line.front + 1, **style))


def band(panel: Panel, x: Iterable[float], low: Iterable[float], high: Iterable[float], colour: str) -> None:
    """Shade the room between two curves where both are known."""
    ends = np.column_stack([np.asarray(values, dtype=float) for values in (x, low, high)])
    ends = ends[~np.isnan(ends).any(axis=1)]
    if len(ends) > 1:
        edge = np.concatenate([ends[:, :2], ends[::-1, ::2]])
        shade = PathPatch(Path(edge, closed=False), fc=colour, alpha=0.18, lw=0, zorder=1, clip_on=False)
        panel.add(shade)


def dots(panel: Panel, x: Iterable[float], y: Iterable[float], colour: str, size: float, alpha: float = 1.0) -> None:
    """Draw equal round dots of a diameter in points, as one path of few bytes."""
    points = np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])
    if not len(points):
        return
    # segments of all but no length with round ends: a circle each, where markers would cost forty bytes; of none at
    # all, or snapped to whole pixels, PNG shows nothing
    ends = np.repeat(points, 2, axis=0)
    ends[1::2, 0] += HAIR * (panel.across[1] - panel.across[0]) / panel.width
    path = Path(ends, [Path.MOVETO, Path.LINETO] * len(points))
    path.should_simplify = False
    style: dict[str, Any] = {"fill": False, "ec": colour, "lw": size, "alpha": alpha, "capstyle": "round"}
    panel.add(PathPatch(path, clip_on=False, snap=False, **style))


def rings(panel: Panel, x: Iterable[float], y: Iterable[float], colour: str, size: float) -> None:
    """Draw hollow round markers of a diameter in points."""
    look = panel.look
    style: dict[str, Any] = {"marker": "o", "ms": size, "mfc": look.paper, "mec": colour, "mew": look.stroke * 1.25}
    panel.add(Line2D(list(x), list(y), ls="", clip_on=False, **style))


def shade(panel: Panel, box: tuple[float, float, float, float], share: float, words: str, tip: str = "") -> None:
    """Draw a box (x, y, width, height) in the accent colour, stronger the greater the share, with words in it."""
    x, y, width, height = box
    look = panel.look
    panel.add(Rectangle((x, y), width, height, fc=look.accent, alpha=round(share, 2), lw=0, clip_on=False), tip)
    if words:
        colour = look.on_accent if share > ON_SHADE else look.ink
        panel.text(x + width / 2, y + height / 2, words, ha="center", va="center_baseline", color=colour)


TURNED = 38  # degrees, of the names of columns
Words = Callable[[float], str]
Tip = Callable[[str, str, float], str]


def shaded_table(
    look: Look, width: float, values: pd.DataFrame, written: Words, tip: Tip, *, row: float, hot: str | None = None
) -> Figure:
    """Return a table as shades, a box a cell, row names to the left and column names, turned, above.

    Args:
        values: shares from 0 to 1; nothing is drawn for NaN.
        written: writes a value into its cell, where there is room.
        tip: returns what a pointer's rest shows, of (row name, column name, value).
        row: height of a row in points.
        hot: name of a row and column that is tested.
    """
    figure = look.sheet(width, table_height(look, values, row))
    table_in(look, figure, (0, 0, width), values, written, tip, row=row, hot=hot)
    return figure


def table_height(look: Look, values: pd.DataFrame, row: float) -> float:
    """Return the height in points of a shaded table."""
    return _heads(look, values) + row * len(values) + 4


def _heads(look: Look, values: pd.DataFrame) -> float:
    return max((len(str(name)) for name in values), default=0) * look.small * LETTER * 0.6 + 1.4 * look.small


def table_in(
    look: Look,
    figure: Figure,
    place: tuple[float, float, float],
    values: pd.DataFrame,
    written: Words,
    tip: Tip,
    *,
    row: float,
    hot: str | None = None,
) -> None:
    """Draw a shaded table into a part of a figure: x, y of the left upper corner, and width, in points."""
    size, (x, y, width) = look.small, place
    names, heads = [str(name) for name in values.index], [str(name) for name in values.columns]
    left, top = min(gutter(names, size), 0.42 * width), _heads(look, values)
    side = (width - left - _room_right(look, heads, width - left, max(2.2 * size, 0.3 * top))) / len(heads)
    box = (x, y, width, table_height(look, values, row))
    made = Panel(look, figure, box, (left, top, width - left - side * len(heads), 4))
    made.limits((0, len(heads)), (len(names), 0))
    turned: dict[str, Any] = {"rotation": TURNED, "rotation_mode": "anchor", "ha": "left", "va": "baseline"}
    for column, name in enumerate(heads):
        made.text(column + 0.4, -0.4 * size / row, name, **turned, **_hot(look, name == hot))
    most, room = int((left - size) / (size * LETTER)), side > 2 * size and row > size
    for line, name in enumerate(names):
        cut = name if len(name) <= most else name[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"
        made.label(line + 0.5 - 1 / row, cut, **_hot(look, name == hot))
        for column, head in enumerate(heads):
            value = float(values.iat[line, column])
            if not np.isnan(value):
                cell = (column, line, 1 - 2 / side, 1 - 2 / row)
                shade(made, cell, 0.05 + 0.95 * value, written(value) if room else "", tip(name, head, value))


def _room_right(look: Look, heads: Sequence[str], width: float, least: float) -> float:
    """Return how much of a width to leave to the right of all columns, so that turned names end inside, in points."""
    ends = [math.cos(math.radians(TURNED)) * look.width_of(name, look.small) for name in heads]
    shares = [(place + 0.4) / len(heads) for place in range(len(heads))]  # of the columns' width, where a name begins
    rooms = [(end - (1 - share) * width) / share for end, share in zip(ends, shares, strict=True)]
    return min(max(least, *rooms), width / 2)


def _hot(look: Look, hot: bool) -> dict[str, Any]:
    return {"color": look.hot, "fontweight": 700} if hot else {"color": look.ink}


@dataclass(frozen=True)
class Bar:
    """One row of a forest plot: an estimate with its interval; `seeds` are the single seeds' estimates."""

    label: str
    estimate: float
    low: float
    high: float
    kind: str = "plain"  # plain, lower (baseline) or upper (upper bound)
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Mark:
    """A line down a forest plot."""

    value: float
    label: str
    dashes: tuple[float, float]  # drawn and left out, in points


def forest(
    look: Look,
    bars: Sequence[Bar],
    marks: Sequence[Mark],
    write: Callable[[float], str],
    unit: str,
    *,
    ticks: Callable[[Sequence[float]], list[str]] = percent_labels,
) -> Figure:
    """Draw estimates with intervals, one below the other, their numbers to the right.

    Args:
        write: writes a value; `unit` stands below the axis.
        ticks: writes the values along the axis.
    """
    size, width = look.small, look.wide
    left, row, top = min(gutter([bar.label for bar in bars], look.text), 0.35 * width), 2.5 * look.text, 0.8 * look.text
    ends = [f"{write(bar.low)} to {write(bar.high)}" for bar in bars]
    number = 0.66 * look.text * max(len(write(bar.estimate)) for bar in bars)
    right = 1.3 * look.text + number + max(look.width_of(words, size) for words in ends)
    values = [v for bar in bars for v in (bar.low, bar.high, bar.estimate)] + [mark.value for mark in marks] + [0.0]
    at = round_ticks(min(values), max(values), 5)
    made = panel(look, width, top + row * len(bars) + 3.3 * size, (left, top, right, 3.3 * size))
    made.limits((at[0], at[-1]), (len(bars), 0))
    made.mark_across(at, ticks(at), unit, lines=True)
    for mark in marks:
        style: dict[str, Any] = {"color": look.mute, "lw": 0.75 * look.stroke, "ls": (0, mark.dashes)}
        line = Line2D([mark.value, mark.value], [-0.5 * top / row, len(bars)], clip_on=False, **style)
        made.add(line, mark.label)
    for place, bar in enumerate(bars):
        _bar(made, bar, place + 0.5, write, width - right + 0.7 * look.text + number)
    return made.figure


def _bar(panel: Panel, bar: Bar, y: float, write: Callable[[float], str], end: float) -> None:
    """Draw a row; `end` is where its number ends, in points from the left."""
    look = panel.look
    lines = wrap(bar.label, panel.left - look.small, look.text)
    for number, line in enumerate(lines):
        panel.label(y + 0.42 * (number - (len(lines) - 1) / 2), line, fontsize=look.text)
    colour = look.mute if bar.kind in ("lower", "upper") else look.accent
    ends = f"{write(bar.low)} to {write(bar.high)}"
    reach = Line2D(
        [bar.low, bar.high],
        [y, y],
        color=colour,
        lw=1.5 * look.stroke,
        alpha=0.55,
        solid_capstyle="round",
        clip_on=False,
    )
    panel.add(reach)
    for seed in bar.seeds:
        panel.add(Line2D([seed, seed], [y - 0.22, y + 0.22], color=colour, lw=0.6 * look.stroke, clip_on=False))
    face = look.paper if bar.kind == "upper" else colour
    point = Line2D([bar.estimate], [y], marker="o", ms=0.85 * look.text, mfc=face, mec=colour, mew=look.stroke, ls="")
    point.set_clip_on(False)
    panel.add(point, f"{bar.label}: {write(bar.estimate)} ({ends})")
    place: dict[str, Any] = {"transform": panel.beside, "va": "center_baseline"}
    panel.text(end, y, write(bar.estimate), ha="right", fontsize=look.text, fontweight=700, **place)
    panel.text(end + 0.5 * look.text, y, ends, fontsize=look.small, color=look.mute, **place)


def frame(panel: Panel, box: tuple[float, float, float, float], colour: str, **style: Any) -> None:
    """Draw an empty box (x, y, width, height)."""
    x, y, width, height = box
    drawn: dict[str, Any] = {"fill": False, "ec": colour, "lw": panel.look.stroke / 2, "clip_on": False}
    panel.add(Rectangle((x, y), width, height, **drawn | style))
