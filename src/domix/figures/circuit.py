"""A circuit as a drawing: sites stacked from below, a dot a channel, a line an edge."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from domix.figures.look import Look
from domix.figures.panel import Panel, gutter, panel

MOST = 14  # channels of a site that are drawn, and edges into one


def layers(look: Look, nodes: pd.DataFrame, edges: pd.DataFrame) -> Figure:
    """Draw a circuit, the first site lowest, of each site the channels of the largest effects.

    Args:
        nodes: `site, depth, channel, effect`; below zero is drawn in the accent's colour, above in the hot one's,
            stronger the larger it is among its site's.
        edges: `site, depth, channel, upstream, weight` into the channel from one of the site before; coloured likewise,
            positive in the accent's colour.
    """
    nodes = nodes.assign(size=nodes["effect"].abs()).sort_values(["depth", "size"], ascending=[True, False])
    nodes = nodes.groupby("depth", sort=True).head(MOST)
    sites = nodes.drop_duplicates("depth")["site"].tolist()
    row, size = 3.4 * look.small, look.small
    left = min(gutter(sites, size), 0.4 * look.panel)
    made = panel(look, look.panel, row * len(sites) + size, (left, size, size, size))
    made.limits((-0.5, MOST - 0.5), (-0.5, len(sites) - 0.5))
    places: dict[tuple[str, int], tuple[float, float]] = {}
    for height, site in enumerate(sites):
        mine = nodes[nodes["site"] == site].sort_values("channel")
        made.label(height, site, color=look.mute)
        across = (np.arange(len(mine)) - (len(mine) - 1) / 2) + (MOST - 1) / 2
        for x, channel in zip(across, mine["channel"].tolist(), strict=True):
            places[site, channel] = (float(x), float(height))
    _edges(made, edges, sites, places)
    most = nodes.groupby("site")["size"].max()
    for site, channel, effect in zip(nodes["site"], nodes["channel"], nodes["effect"], strict=True):
        share = abs(effect) / most[site] if most[site] > 0 else 0.0
        _dot(made, *places[site, channel], effect, share, f"{site}/{channel}: effect {effect:+.2g}")
    return made.figure


def _edges(
    made: Panel, edges: pd.DataFrame, sites: list[str], places: dict[tuple[str, int], tuple[float, float]]
) -> None:
    before = dict(zip(sites[1:], sites[:-1], strict=True))
    for positive, colour in ((False, made.look.hot), (True, made.look.accent)):
        drawn = edges[(edges["weight"] > 0) == positive]
        ends = [
            ((before.get(site, ""), upstream), (site, channel))
            for site, upstream, channel in zip(drawn["site"], drawn["upstream"], drawn["channel"], strict=True)
        ]
        lines = [(places[one], places[other]) for one, other in ends if one in places and other in places]
        style: dict[str, Any] = {"linewidths": made.look.stroke / 2, "alpha": 0.45, "zorder": 1, "clip_on": False}
        if lines:
            made.add(LineCollection(lines, colors=colour, **style))


def _dot(made: Panel, x: float, y: float, effect: float, share: float, tip: str) -> None:
    look = made.look
    colour = look.accent if effect < 0 else look.hot
    style: dict[str, Any] = {"marker": "o", "ms": 0.75 * look.small, "ls": "", "clip_on": False}
    made.add(Line2D([x], [y], mfc=look.paper, mec=colour, mew=look.stroke / 2, zorder=2, **style))
    made.add(Line2D([x], [y], mfc=colour, mec="none", alpha=round(0.15 + 0.85 * share, 2), zorder=3, **style), tip)
