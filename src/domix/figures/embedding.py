"""Charts of embeddings and layers: maps of points, distances between groups, and likeness layer by layer.

They take plain tables, so that any analysis can draw them; each returns a drawing of one panel in the given look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from domix.figures.charts import Line, band, curve, dots, rings, shaded_table
from domix.figures.look import Look
from domix.figures.panel import Panel, panel, round_ticks

EDGE = 8.0  # room around a map, points
MOST_NAMES = 10  # layers named below an axis


def map_by_group(look: Look, points: pd.DataFrame, colours: Mapping[str, str], front: str) -> Figure:
    """Draw points of a map (`x, y, group`) in the colours of their groups, the group `front` on top."""
    made = _map(look, points)
    x, y, groups = (points[name].to_numpy() for name in ("x", "y", "group"))
    for group in sorted(colours, key=lambda name: name == front):
        mine = groups == group
        dots(made, x[mine], y[mine], colours[group], 2 * look.stroke, 0.65)
    return made.figure


def map_of_stars(look: Look, points: pd.DataFrame, groups: Sequence[str]) -> Figure:
    """Draw points of a map (`x, y, group, tested`) with some groups in the colours of the series.

    A line ties each tested point (ringed) to the middle of its group's other points.
    """
    made = _map(look, points)
    x, y, group, tested = (points[name].to_numpy() for name in ("x", "y", "group", "tested"))
    rest = ~points["group"].isin(groups).to_numpy()
    dots(made, x[rest], y[rest], look.grid, 1.5 * look.stroke)
    for place, name in enumerate(groups):
        mine, colour = group == name, look.series[place % len(look.series)]
        rings_of, others = mine & tested, mine & ~tested
        if others.any() and rings_of.any():
            middle = (float(np.median(x[others])), float(np.median(y[others])))
            ties = [(point, middle) for point in zip(x[rings_of], y[rings_of], strict=True)]
            lines = LineCollection(ties, colors=colour, linewidths=look.stroke / 2, alpha=0.7, clip_on=False, zorder=1)
            made.add(lines)
        dots(made, x[others], y[others], colour, 3 * look.stroke)
        rings(made, x[rings_of], y[rings_of], colour, 4.5 * look.stroke)
    return made.figure


def fitted(points: pd.DataFrame) -> pd.DataFrame:
    """Return a map's points with `x` and `y` in 0..1, not stretched; the outermost few lie on the edge."""
    ends = points[["x", "y"]].quantile([0.002, 0.998])
    low, high = ends.iloc[0], ends.iloc[1]
    span = max(float((high - low).max()), 1e-9)
    moved = {axis: (points[axis] - low[axis]) / span + (1 - (high[axis] - low[axis]) / span) / 2 for axis in ("x", "y")}
    return points.assign(**{axis: values.clip(0, 1).astype(float) for axis, values in moved.items()})


def _map(look: Look, points: pd.DataFrame) -> Panel:
    assert points["x"].between(0, 1).all(), "a map's points lie in 0..1: see fitted()"
    made = panel(look, look.panel, look.panel, (EDGE, EDGE, EDGE, EDGE))
    made.limits((0, 1), (0, 1))
    return made


def distances(look: Look, table: pd.DataFrame, most: float, hot: str) -> Figure:
    """Draw distances between groups (rows x columns) as shades; the strongest is `most`, `hot` is the tested group."""
    shares = table.to_numpy(dtype=float, copy=True) / (most or 1.0)
    np.fill_diagonal(shares, np.nan)
    values = pd.DataFrame(shares, index=table.index, columns=table.columns)

    def written(share: float) -> str:
        return f"{share * most:.2f}" if most < 10 else f"{share * most:.0f}"

    def tip(one: str, other: str, share: float) -> str:
        return f"{one} and {other}: {share * most:.3f}"

    return shaded_table(look, look.panel, values, written, tip, row=3.1 * look.small, hot=hot)


def ranked(look: Look, table: pd.DataFrame, colours: Mapping[str, str], front: str, most: float) -> Figure:
    """Draw sizes by their rank, a curve a group, ranks on a logarithmic axis; the group `front` on top and thick.

    Args:
        table: `group, rank, value`, ranks from 1.
        colours: of the groups.
        most: the greatest value of all panels.
    """
    size, last = look.small, int(table["rank"].max())
    made = panel(look, look.panel, 0.62 * look.panel, (3.6 * size, 0.9 * size, 1.1 * size, 3.6 * size))
    ticks = round_ticks(0.0, most)
    powers = [10**power for power in range(1 + int(np.log10(last)))]
    made.limits((0.0, max(np.log10(last), 0.1)), (0.0, ticks[-1]))
    made.mark_up(ticks, [f"{tick:g}" for tick in ticks])
    made.mark_across([float(np.log10(power)) for power in powers], [str(power) for power in powers], "rank")
    for group in sorted(table["group"].unique(), key=lambda name: name == front):
        mine = table[table["group"] == group].sort_values("rank")
        width = (1.5 if group == front else 0.75) * look.stroke
        curve(made, np.log10(mine["rank"]), mine["value"], Line(colours[group], width), group)
    return made.figure


def scatter(
    look: Look, points: pd.DataFrame, colours: Mapping[str, str], front: str, titles: tuple[str, str]
) -> Figure:
    """Draw points (`x, y, group`) in the colours of their groups, the group `front` on top, with marked axes."""
    size = look.small
    made = panel(look, look.panel, look.panel, (4.6 * size, 0.9 * size, 1.1 * size, 3.6 * size))
    across, up = (round_ticks(float(points[axis].min()), float(points[axis].max())) for axis in ("x", "y"))
    made.limits((across[0], across[-1]), (up[0], up[-1]))
    made.mark_across(across, [f"{tick:g}" for tick in across], titles[0], lines=True)
    made.mark_up(up, [f"{tick:g}" for tick in up], titles[1])
    for group in sorted(colours, key=lambda name: name == front):
        mine = points[points["group"] == group]
        dots(made, mine["x"], mine["y"], colours[group], 2 * look.stroke, 0.65)
    return made.figure


def alike(look: Look, table: pd.DataFrame) -> Figure:
    """Draw how alike every row and every column are (-1 to 1, from 0 on as shades) as a table."""

    def written(share: float) -> str:
        return f"{share:.2f}".removeprefix("0")

    def tip(one: str, other: str, share: float) -> str:
        return f"{one} and {other}: {share:.3f}"

    return shaded_table(look, look.panel, table.clip(lower=0.0), written, tip, row=2.1 * look.small)


def by_layer(look: Look, table: pd.DataFrame, limits: tuple[float, float]) -> Figure:
    """Draw curves over layers, pairs of groups with the tested one against the other pairs; thick: their means.

    Args:
        table: `layer, depth, pair, tested (is one of the pair the tested group?), value`.
        limits: least and greatest value of all panels.
    """
    layers, size = _in_order(table), look.small
    longest = _room_below(look, layers)
    made = panel(look, look.panel, 0.5 * look.panel + longest, (3.1 * size, 0.9 * size, 1.1 * size, longest))
    _mark_values(made, layers, _with_zero(limits))
    _name_layers(made, layers)
    curves = table.pivot(index=["tested", "pair"], columns="layer", values="value")[layers]
    colours = {True: look.hot, False: look.mute}
    for (tested, pair), values in zip(curves.index, curves.to_numpy(), strict=True):
        curve(made, range(len(layers)), values, Line(colours[bool(tested)], look.stroke / 2, alpha=0.3), str(pair))
    for tested, values in curves.groupby("tested").mean().iterrows():
        _mean_curve(made, values, tested=bool(tested))
    return made.figure


def groups_by_layer(
    look: Look, table: pd.DataFrame, colours: Mapping[str, str], front: str, limits: tuple[float, float]
) -> Figure:
    """Draw a curve a group over layers, the group `front` on top and thick.

    Args:
        table: `layer, depth, group, value`.
        colours: of the groups.
        limits: least and greatest value of all panels.
    """
    layers, size = _in_order(table), look.small
    longest = _room_below(look, layers)
    made = panel(look, look.panel, 0.5 * look.panel + longest, (3.1 * size, 0.9 * size, 1.1 * size, longest))
    _mark_values(made, layers, limits)
    _name_layers(made, layers)
    curves = table.pivot(index="group", columns="layer", values="value")[layers]
    for group in sorted(curves.index, key=lambda name: name == front):
        width = (1.5 if group == front else 1.0) * look.stroke
        curve(made, range(len(layers)), curves.loc[group], Line(colours[group], width), group)
        dots(made, range(len(layers)), curves.loc[group], colours[group], 2 * width)
    return made.figure


def bands_by_layer(look: Look, table: pd.DataFrame, subsets: Sequence[str], limits: tuple[float, float]) -> Figure:
    """Draw two mean curves over layers with their bands, a panel a subset, one below the other.

    Args:
        table: `subset, layer, depth, tested (of the pairs with the tested group?), value, low, high`.
        subsets: the panels, from above; one without rows is left out.
        limits: least and greatest value of all panels.
    """
    layers, size = _in_order(table), look.small
    shown = [name for name in subsets if (table["subset"] == name).any()]
    each, longest = 0.34 * look.panel + 1.6 * size, _room_below(look, layers)
    figure = look.sheet(look.panel, each * len(shown) + longest)
    for place, name in enumerate(shown):
        last = place == len(shown) - 1
        below = longest if last else 0.0
        made = Panel(look, figure, (0, each * place, look.panel, each + below), (3.1 * size, 1.8 * size, size, below))
        made.title(name)
        _mark_values(made, layers, _with_zero(limits))
        if last:
            _name_layers(made, layers)
        for tested, part in table[table["subset"] == name].groupby("tested"):
            values = part.set_index("layer").reindex(layers)
            colour = look.hot if tested else look.mute
            band(made, range(len(layers)), values["low"], values["high"], colour)
            _mean_curve(made, values["value"], tested=bool(tested))
    return figure


def _in_order(table: pd.DataFrame) -> list[str]:
    return table.drop_duplicates("layer").sort_values("depth")["layer"].tolist()


def _room_below(look: Look, layers: Sequence[str]) -> float:
    """Return the height in points that the layers' turned names take."""
    return max(map(len, layers)) * look.small * 0.36 + 2.0 * look.small


def _with_zero(limits: tuple[float, float]) -> tuple[float, float]:
    return min(0.0, limits[0]), max(limits[1], 0.1)


def _mark_values(made: Panel, layers: Sequence[str], limits: tuple[float, float]) -> None:
    """Set a panel's limits, layers across, and mark the values."""
    ticks = round_ticks(*limits)
    made.limits((-0.15, len(layers) - 0.85), (ticks[0], ticks[-1]))
    made.mark_up(ticks, [f"{tick:g}" for tick in ticks])


def _name_layers(made: Panel, layers: Sequence[str]) -> None:
    every = -(-len(layers) // MOST_NAMES)
    turned = {"rotation": 40, "rotation_mode": "anchor", "ha": "right", "va": "center", "transform": made.below}
    for place in range(len(layers))[::-every]:  # the last layer always has its name
        made.text(place, 0.9 * made.look.small, layers[place], color=made.look.mute, **turned)


def _mean_curve(made: Panel, values: pd.Series, *, tested: bool) -> None:
    look = made.look
    line = Line(look.hot if tested else look.mute, 1.5 * look.stroke, "-" if tested else (0, (2.3, 1.3)), front=3)
    curve(made, range(len(values)), values, line)
    dots(made, range(len(values)), values, line.colour, 3 * look.stroke)
