"""The figures of flagged images, a row a domain, two kinds of classes in each; and of accuracy against AUROC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from domix.figures.charts import Line, curve, markers, rings
from domix.figures.look import SERIES, Drawing, Look
from domix.figures.panel import gutter, panel, percent_labels
from domix.figures.relation import related
from domix.ood.correlation import band, correlate
from domix.runtime.wording import percent

TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
APART = 0.17  # of a row, of what stands above and below its middle


def draw_relation(
    dots: pd.DataFrame, groups: Sequence[str], titles: tuple[str, str], confidence: float, look: Look
) -> Drawing:
    """Draw two numbers of models against each other, with the line by least squares and where it may lie.

    Args:
        dots: `name, group, x, y`.
        groups: in order, which have colours of their own.
        titles: of the axes across and up.
        confidence: of the line's band.
        look: of the figure.
    """
    colours = {group: look.series[place % SERIES] for place, group in enumerate(groups)}
    at = np.linspace(dots["x"].min(), dots["x"].max(), 40)
    found = correlate(dots["x"], dots["y"], resamples=1)
    low, high = band(dots["x"], dots["y"], at, confidence=confidence)
    line = pd.DataFrame({"x": at, "low": low, "expected": found.expected(at), "high": high})
    return related(look, dots, line, colours, titles)


def draw_flags(
    table: pd.DataFrame, domains: list[str], kinds: tuple[str, str], hot: str, at: float, look: Look
) -> Drawing:
    """Draw which share of each domain's images is flagged, dots of the first kind above rings of the second.

    Args:
        table: `domain, cells, share, low, high`.
        domains: in order, from above.
        kinds: two cells.
        hot: the test domain.
        at: what the threshold flags of the known images.
        look: of the figure.
    """
    row, size = 2.9 * look.small, look.small
    left = gutter(domains, size)
    made = panel(look, look.panel, row * len(domains) + 4.6 * size, (left, size, 1.6 * size, 3.6 * size))
    made.limits((0.0, 1.0), (len(domains), 0))
    made.mark_across(list(TICKS), percent_labels(TICKS), "flagged, %", lines=True)
    dashed = Line(look.mute, 0.75 * look.stroke, (0, (4, 2.7)))
    curve(made, [at, at], [0, len(domains)], dashed, f"of the known images: {percent(at)}")
    for place, domain in enumerate(domains):
        colour = look.hot if domain == hot else look.accent
        made.label(place + 0.5, domain, **({"color": look.hot, "fontweight": 700} if domain == hot else {}))
        for number, kind in enumerate(kinds):
            mine = table[(table["domain"] == domain) & (table["cells"] == kind)]
            if mine.empty:
                continue
            values, y = mine.iloc[0], place + 0.5 + (APART if number else -APART)
            if np.isfinite(values["low"]):
                curve(made, [values["low"], values["high"]], [y, y], Line(colour, 1.5 * look.stroke, alpha=0.45))
            if number:
                rings(made, [values["share"]], [y], colour, 3.2 * look.stroke)
            else:
                markers(made, [values["share"]], [y], Line(colour, look.stroke, marker="o"), 3.6 * look.stroke)
    return made.figure
