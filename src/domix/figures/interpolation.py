"""Numbers of models along a way of weights, from a model before fine-tuning to the same after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from domix.figures.charts import Line, curve, dots, rings
from domix.figures.look import Drawing, Look
from domix.figures.panel import panel, percent_labels, round_ticks

QUARTERS = [0, 0.25, 0.5, 0.75, 1]


def trade_off(look: Look, table: pd.DataFrame, names: Sequence[str], across: str) -> Drawing:
    """Draw two accuracies against each other along the way: a ring where it begins, a large dot where it ends.

    Args:
        look: of the page or the print.
        table: columns series, alpha, x and y, shares; rows of a series in the order of alpha.
        names: the series, in the order of the look's colours.
        across: label of the axis x.
    """
    size = look.small
    made = panel(look, look.panel, 0.7 * look.panel, (3.6 * size, 0.9 * size, 1.1 * size, 3.6 * size))
    right, up = (round_ticks(float(table[axis].min()), float(table[axis].max())) for axis in ("x", "y"))
    made.limits((right[0], right[-1]), (up[0], up[-1]))
    made.mark_across(right, percent_labels(right), across)
    made.mark_up(up, percent_labels(up))
    for place, name in enumerate(names):
        mine = table[table["series"] == name]
        colour = look.series[place % len(look.series)]
        curve(made, mine["x"], mine["y"], Line(colour, look.stroke, front=2 + place), name)
        dots(made, mine["x"].iloc[1:-1], mine["y"].iloc[1:-1], colour, 0.35 * size)
        dots(made, mine["x"].iloc[-1:], mine["y"].iloc[-1:], colour, 0.8 * size)
        rings(made, mine["x"].iloc[:1], mine["y"].iloc[:1], colour, 0.7 * size)
    return made.figure


def over_share(
    look: Look, table: pd.DataFrame, names: Sequence[str], across: str, *, shares: bool, key: bool = False
) -> Drawing:
    """Draw a number over a share from 0 to 1, a curve a series.

    Args:
        look: of the page or the print.
        table: columns series, x and y; unknown values are left out.
        names: the series, in the order of the look's colours.
        across: label of the axis x.
        shares: the numbers are shares, too, told in percent.
        key: write the names of the series above, where no page does.
    """
    size = look.small
    head = 1.4 * size * len(names) if key else 0
    margins = (3.6 * size, 0.9 * size + head, 1.1 * size, 3.6 * size)
    made = panel(look, look.panel, 0.62 * look.panel + head, margins)
    known = table["y"].to_numpy(dtype=np.float64)
    known = known[np.isfinite(known)]
    ticks = round_ticks(float(known.min(initial=np.inf)), float(known.max(initial=-np.inf))) if len(known) else [0, 1]
    made.limits((0, 1), (ticks[0], ticks[-1]))
    made.mark_across(QUARTERS, [f"{tick:g}" for tick in QUARTERS], across)
    made.mark_up(ticks, percent_labels(ticks) if shares else [f"{tick:g}" for tick in ticks])
    for place, name in enumerate(names):
        mine = table[table["series"] == name]
        colour = look.series[place % len(look.series)]
        curve(made, mine["x"], mine["y"], Line(colour, look.stroke, front=2 + place), name)
        if key:
            above = (ticks[-1] - ticks[0]) / made.height * (head - 1.4 * size * place - 0.4 * size)
            made.text(0, ticks[-1] + above, name, color=colour, va="center_baseline")
    return made.figure
