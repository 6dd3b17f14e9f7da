"""Histograms: how often values occur, as bars."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from domix.figures.look import Look
from domix.figures.panel import panel, round_ticks

BINS = 30


def histogram(look: Look, values: NDArray[np.float64], most: float, title: str) -> Figure:
    """Draw how many of the values lie in each of equal bins from 0 to `most`; `title` stands below the axis.

    Heights are the square roots of counts, so that single values far out are seen beside many near the mean.
    """
    size = look.small
    made = panel(look, look.panel, 0.55 * look.panel, (3.6 * size, 0.9 * size, 1.1 * size, 3.6 * size))
    across = round_ticks(0.0, most)
    counts, edges = np.histogram(values, BINS, (0.0, across[-1]))
    powers = [10**power for power in range(1 + int(np.log10(max(counts.max(), 1))))]
    made.limits((0.0, across[-1]), (0.0, 1.05 * float(np.sqrt(max(counts.max(), 1)))))
    made.mark_across(across, [f"{tick:g}" for tick in across], title)
    made.mark_up([float(np.sqrt(power)) for power in powers], [str(power) for power in powers])
    for count, low, high in zip(counts, edges, edges[1:], strict=False):
        if count:
            bar = Rectangle((low, 0), 0.92 * (high - low), np.sqrt(count), fc=look.accent, lw=0, clip_on=False)
            made.add(bar, f"{low:.2g} to {high:.2g}: {count}")
    return made.figure
