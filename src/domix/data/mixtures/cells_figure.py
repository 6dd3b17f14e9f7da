"""An image of the cells that each mixture of a study holds: domains down, classes across, colour the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from domix.data.mixtures.cells import Cells, Ints, Split
from domix.data.mixtures.composition import Composition
from domix.runtime.files import atomic_file

# All lengths are inches, from the image's upper left corner.
PANEL, BAND, BETWEEN = 3.0, 0.13, 0.12  # a panel's width, the height of one domain in it, what parts two panels
LEFT, TOP, TITLE, BOTTOM = 0.95, 0.75, 0.32, 0.65  # for the domains' names, the heading, a panel's name, the legend
TEST_WIDTH, GAP = 0.72, 0.05  # of a panel: the test classes' part, however few they are, and what parts it
COLUMNS = {"test": 24, "seen": 76}  # that fit; of more classes neighbours are averaged
EMPTY, HELD_OUT, INK, PALE, COLOURS = "#e9e7e2", "#d1495b", "#2b2b2b", "#5f5f5f", "viridis_r"
Floats = NDArray[np.float64]


def write_figure(path: Path, mixtures: Sequence[Composition], cells: Cells, split: Split) -> None:
    """Write one panel a mixture as PNG: equal input gives equal bytes.

    Test classes stand left, the others right, both from the most to the fewest samples in the data.
    """
    across = max(1, math.ceil(math.sqrt(len(mixtures) * 0.45)))
    down = math.ceil(len(mixtures) / across)
    height = BAND * len(cells.domains) + TITLE
    size = (max(LEFT + across * (PANEL + BETWEEN) + 0.1, 6.2), TOP + down * height + BOTTOM)
    figure = Figure(figsize=size, dpi=110, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))  # one for all: a hundred would take a hundred times as long
    axes.set(xlim=(0, size[0]), ylim=(size[1], 0))
    axes.set_axis_off()
    axes.autoscale(False)
    norm = LogNorm(1, max(2, *(int(mixture.shown.max()) for mixture in mixtures)))
    for number, mixture in enumerate(mixtures):
        row, column = divmod(number, across)
        x, y = LEFT + column * (PANEL + BETWEEN), TOP + row * height + TITLE - 0.1
        _draw_panel(axes, (x, y), mixture, cells, split, norm)
        if column == 0:
            for place, domain in enumerate(cells.domains):
                _write(axes, x - 0.06, y + (place + 0.5) * BAND, domain, ha="right", va="center")
    _draw_heading(axes, split)
    _draw_legend(axes, size[1] - 0.42, norm)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def _draw_panel(
    axes: Axes, corner: tuple[float, float], mixture: Composition, cells: Cells, split: Split, norm: LogNorm
) -> None:
    x, y = corner
    tested, seen = class_order(cells, split)
    bands = y + BAND * np.arange(len(cells.domains) + 1)
    start = x + TEST_WIDTH + GAP
    blocks = ((tested, COLUMNS["test"], x, x + TEST_WIDTH), (seen, COLUMNS["seen"], start, x + PANEL))
    for labels, fit, low, high in blocks:
        axes.add_patch(Rectangle((low, y), high - low, bands[-1] - y, facecolor=EMPTY, linewidth=0))
        means = bin_means(mixture.shown[:, labels], fit)
        edges = np.linspace(low, high, means.shape[1] + 1)
        axes.pcolormesh(edges, bands, np.ma.masked_less_equal(means, 0), norm=norm, cmap=COLOURS)
    test = cells.domains.index(split.test_domain)
    if mixture.shown[test, tested].sum() == 0:
        axes.add_patch(_frame(x, bands[test], TEST_WIDTH, BAND))
    _write(axes, x, y - 0.04, mixture.name, size=7.5, va="bottom")
    _write(axes, x + PANEL, y - 0.04, f"{int(mixture.shown.sum()):,}", ha="right", va="bottom", color=PALE)


def class_order(cells: Cells, split: Split) -> tuple[list[int], list[int]]:
    """Return the labels of the test classes and of the others, each from the most to the fewest samples."""
    order = np.argsort(-cells.train.sum(axis=0), kind="stable").tolist()
    tested = {cells.classes.index(name) for name in split.test_classes}
    return [label for label in order if label in tested], [label for label in order if label not in tested]


def bin_means(counts: Ints, fit: int) -> Floats:
    """Average neighbouring columns of [G, K] so that at most `fit` are left; where a cell holds something, it shows."""
    groups = np.array_split(np.arange(counts.shape[1]), min(fit, counts.shape[1]))
    means = np.stack([counts[:, group].mean(axis=1) for group in groups], axis=1)
    return np.where(means > 0, means.clip(min=1), 0)


def _draw_heading(axes: Axes, split: Split) -> None:
    _write(axes, 0.12, 0.14, "Training samples a cell", size=10, va="top", weight="bold")
    text = (
        f"{len(split.test_classes)} test classes left, {len(split.seen_classes)} others right, from the most samples to"
        f" the fewest; test domain {split.test_domain}\nnumbers: samples in all, without those of other sources"
    )
    _write(axes, 0.12, 0.36, text, va="top", color=PALE)


def _draw_legend(axes: Axes, y: float, norm: LogNorm) -> None:
    """Draw the colour scale, and what an empty cell and a red frame mean."""
    values = np.geomspace(1, float(norm.vmax or 2), 121)
    places = np.linspace(LEFT, LEFT + 2.2, len(values))
    axes.pcolormesh(places, [y, y + 0.1], values[None, :-1], norm=norm, cmap=COLOURS)
    for tick in (10**power for power in range(9) if 10**power <= values[-1]):
        place = float(np.interp(math.log(tick), np.log(values), places))
        _write(axes, place, y + 0.12, f"{tick:,}", ha="center", va="top", size=6.5)
    _write(axes, LEFT, y + 0.24, "samples a cell", va="top", size=6.5, color=PALE)
    for offset, text in ((0.0, "none"), (0.2, "test cells of which none is shown")):
        axes.add_patch(Rectangle((LEFT + 2.5, y + offset), 0.3, 0.1, facecolor=EMPTY, linewidth=0))
        _write(axes, LEFT + 2.9, y + offset + 0.05, text, va="center", size=6.5)
    axes.add_patch(_frame(LEFT + 2.5, y + 0.2, 0.3, 0.1))


def _frame(x: float, y: float, width: float, height: float) -> Rectangle:
    return Rectangle((x, y), width, height, fill=False, edgecolor=HELD_OUT, linewidth=1.2)


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    *,
    va: str,
    ha: str = "left",
    size: float = 7,
    color: str = INK,
    weight: str = "normal",
) -> None:
    axes.text(x, y, text, ha=ha, va=va, fontsize=size, color=color, weight=weight)
