"""Two numbers of named things against each other, the line through them, and names that do not cover each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from domix.figures.charts import Line, band, curve
from domix.figures.look import Look
from domix.figures.panel import Panel, panel, round_ticks

Box = tuple[float, float, float, float]  # left, lower, right, upper end, in points from the plane's lower left corner
DOT = 2.8  # diameter of a dot, in widths of a curve
FAR = (0.5, 1.1, 1.9, 2.9)  # how far a name may stand from its dot, in sizes of its text
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))  # right, left, above, below, corners


def related(
    look: Look, points: pd.DataFrame, line: pd.DataFrame, colours: Mapping[str, str], titles: tuple[str, str]
) -> Figure:
    """Draw named points with the line through them and its band.

    A name stands beside its dot where it covers neither a dot nor another name, with a thin line to it where it had to
    go further; where there is no room it is left out. A pointer's rest shows every name with its numbers.

    Args:
        points: `name, group, x, y`.
        line: `x, low, expected, high`, rising in x; no band where ends are NaN.
        colours: of the groups.
        titles: of the axes across and up.
    """
    size = look.small
    made = panel(look, look.wide, 0.72 * look.wide, (5.2 * size, 0.9 * size, 1.6 * size, 3.6 * size))
    ends = [_ends(values) for values in (points["x"], pd.concat([points["y"], line["expected"]]))]
    made.limits(*ends)
    for mark, (low, high), title in zip((made.mark_across, made.mark_up), ends, titles, strict=True):
        inside = [tick for tick in round_ticks(low, high, 7) if low <= tick <= high]
        mark(inside, [f"{tick:g}".replace("-", "\N{MINUS SIGN}") for tick in inside], title)
    band(made, line["x"], line["low"].clip(*made.up), line["high"].clip(*made.up), look.mute)
    curve(made, line["x"], line["expected"], Line(look.mute, 0.75 * look.stroke, (0, (4, 2.7))))
    for row in points.to_dict("records"):
        words = f"{row['name']}: {row['x']:.3g}, {row['y']:.3g}"
        curve(made, [row["x"]], [row["y"]], Line(colours[row["group"]], 0, marker="o"), words)
    _write_names(made, points, colours)
    return made.figure


def place_names(
    at: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], plane: tuple[float, float], dot: float
) -> list[tuple[float, float] | None]:
    """Return where the lower left corner of each name stands, so that none covers a dot or another name.

    Of each dot, in order: right, left, above, below, at the corners; then further off. None: there is no room.

    Args:
        at: of each dot, in points.
        sizes: width and height of each name, likewise.
        plane: width and height within which names stay.
        dot: diameter of a dot.
    """
    dots: list[Box] = [(x - dot / 2, y - dot / 2, x + dot / 2, y + dot / 2) for x, y in at]
    taken: list[Box] = []  # by names, and by the lines that lead to them
    found: list[tuple[float, float] | None] = []
    for (x, y), (width, height) in zip(at, sizes, strict=True):
        place = None
        for far, (right, above) in product(FAR, SIDES):
            gap = dot / 2 + (far - 0.3) * height
            left = x + right * (gap + width / 2) - width / 2
            lower = y + above * (gap + height / 2) - height / 2
            box = (left, lower, left + width, lower + height)
            inside = left >= 0 and lower >= 0 and box[2] <= plane[0] and box[3] <= plane[1]
            near = (min(max(x, left), box[2]), min(max(y, lower), box[3]))
            way = (min(x, near[0]), min(y, near[1]), max(x, near[0]), max(y, near[1]))
            free = not any(_overlap(box, other) for other in dots + taken)
            if inside and free and not any(_overlap(way, other) for other in taken):
                place = (left, lower)
                taken += [box, way]
                break
        found.append(place)
    return found


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _write_names(made: Panel, points: pd.DataFrame, colours: Mapping[str, str]) -> None:
    look, start = made.look, np.array([made.across[0], made.up[0]])
    scale = np.array([made.width / (made.across[1] - start[0]), made.height / (made.up[1] - start[1])])  # points a unit
    at = (points[["x", "y"]].to_numpy(dtype=np.float64) - start) * scale
    names, dot = points["name"].astype(str).tolist(), DOT * look.stroke
    sizes = [(look.width_of(name, look.small), 1.05 * look.small) for name in names]
    places = place_names(at.tolist(), sizes, (made.width, made.height), dot)
    for name, group, own, size, place in zip(names, points["group"], at, np.array(sizes), places, strict=True):
        if place is None:
            continue
        near = np.clip(own, place, place + size)  # the point of the name's box that is next to the dot
        if np.hypot(*(near - own)) > look.small + dot / 2:
            ends = start + np.stack([own, near]) / scale
            made.add(Line2D(*ends.T, color=colours[group], lw=0.4 * look.stroke, clip_on=False, zorder=1.5))
        style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": look.ink}
        made.text(*(start + (place + size / 2) / scale), name, **style)


def _ends(values: pd.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.06 * (high - low) if high > low else 0.5 * abs(high) or 0.5
    return low - room, high + room
