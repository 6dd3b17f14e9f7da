"""A circuit as a drawing: sites stacked from below, an image or a dot a channel, a line an edge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from domix.figures import thumbnails
from domix.figures.look import Look
from domix.figures.panel import Panel, gutter, panel

MOST = 14  # channels of a site that are drawn


def layers(
    look: Look, nodes: pd.DataFrame, edges: pd.DataFrame, thumbnail: Callable[[int], NDArray[np.uint8]]
) -> Figure:
    """Draw a circuit, the first site lowest, of each site the channels of the largest effects.

    Args:
        look: of the figure.
        nodes: `site, depth, channel, effect, image`; an effect below zero is drawn in the accent's colour, above in the
            hot one's, stronger the larger it is among its site's; an image below zero is none.
        edges: `site, depth, channel, upstream, weight` into the channel from one of the site before; coloured likewise,
            positive in the accent's colour.
        thumbnail: returns an image, uint8 [side, side, 3].
    """
    nodes = nodes.assign(size=nodes["effect"].abs()).sort_values(["depth", "size"], ascending=[True, False])
    nodes = nodes.groupby("depth", sort=True).head(MOST)
    sites = nodes.drop_duplicates("depth")["site"].tolist()
    row, small = 3.4 * look.small, look.small
    left = min(gutter(sites, small), 0.4 * look.wide)
    made = panel(look, look.wide, row * len(sites) + small, (left, small, small, small))
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
    side = min(0.82 * made.width / MOST, 0.55 * row)  # so that neighbours do not touch
    columns = ("site", "channel", "effect", "size", "image")
    for site, channel, effect, size, image in zip(*(nodes[name] for name in columns), strict=True):
        at, tip = places[site, channel], f"{site}/{channel}: effect {effect:+.2g}"
        share = size / most[site] if most[site] > 0 else 0.0
        colour, strength = look.accent if effect < 0 else look.hot, round(0.15 + 0.85 * share, 2)
        if image < 0:
            _dot(made, *at, colour, strength, tip)
        else:
            thumbnails.put(made, at, side, thumbnail(image), colour, strength, tip)
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


def _dot(made: Panel, x: float, y: float, colour: str, strength: float, tip: str) -> None:
    look = made.look
    style: dict[str, Any] = {"marker": "o", "ms": 0.75 * look.small, "ls": "", "clip_on": False}
    made.add(Line2D([x], [y], mfc=look.paper, mec=colour, mew=look.stroke / 2, zorder=2, **style))
    made.add(Line2D([x], [y], mfc=colour, mec="none", alpha=strength, zorder=3, **style), tip)
