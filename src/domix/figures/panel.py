"""A panel: axes with margins in points, and what stands in the margins.

matplotlib's own axes take most of a small figure's time and know nothing of the fonts of the page that shows it; so
lines of the grid and their labels are plain artists here, at the places that matplotlib's locator finds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, Transform, blended_transform_factory

from domix.figures.look import LETTER, POINTS_PER_INCH, Look


class Panel:
    """One panel in a figure.

    `box` is its place in the figure, and `margins` (left, top, right, bottom) the room around its axes in there, all
    in points from the left upper corner. Artists are drawn on `axes` in data coordinates; `beside` and `below` are
    transforms with one coordinate in points from the panel's left or from the axes' lower end (downwards).
    """

    def __init__(
        self, look: Look, figure: Figure, box: tuple[float, float, float, float], margins: tuple[float, ...]
    ) -> None:
        self.look, self.figure = look, figure
        wide, high = (side * POINTS_PER_INCH for side in figure.get_size_inches())
        x, y, width, height = box
        left, top, right, bottom = margins
        self.width, self.height = width - left - right, height - top - bottom
        place = ((x + left) / wide, 1 - (y + height - bottom) / high, self.width / wide, self.height / high)
        self.axes: Axes = figure.add_axes(place)
        self.axes.set_axis_off()
        in_points = Affine2D().scale(1 / POINTS_PER_INCH) + figure.dpi_scale_trans
        self.beside: Transform = blended_transform_factory(Affine2D().translate(x, 0) + in_points, self.axes.transData)
        end = Affine2D().scale(1, -1).translate(0, high - (y + height - bottom))
        self.below: Transform = blended_transform_factory(self.axes.transData, end + in_points)
        self.left, self.right, self.bottom = left, right, bottom

    def limits(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        """Set the ranges of both axes; a range may run backwards."""
        self.axes.set_xlim(*across)
        self.axes.set_ylim(*up)

    def mark_across(self, at: Sequence[float], labels: Sequence[str], title: str = "", lines: bool = False) -> None:
        """Write labels below the axes at places across them, with grid lines if asked for, and a title below those."""
        size = self.look.small
        if lines:
            self._grid([((x, 0), (x, 1)) for x in at], self.axes.get_xaxis_transform())
        for x, label in zip(at, labels, strict=True):
            self._words(x, size * 1.45, label, self.below, ha="center", color=self.look.mute)
        if title:
            middle = sum(self.axes.get_xlim()) / 2
            self._words(middle, size * 3.0, title, self.below, ha="center", color=self.look.mute)

    def mark_up(self, at: Sequence[float], labels: Sequence[str]) -> None:
        """Draw grid lines at heights, and write labels to their left."""
        self._grid([((0, y), (1, y)) for y in at], self.axes.get_yaxis_transform())
        for y, label in zip(at, labels, strict=True):
            self.label(y, label, color=self.look.mute)

    def label(self, y: float, words: str, **style: Any) -> None:
        """Write words to the left of the axes at a height."""
        gap = self.look.small * 0.55
        place: dict[str, Any] = {"ha": "right", "va": "center_baseline", "transform": self.beside}
        self.axes.text(self.left - gap, y, words, **place | style)

    def title(self, words: str) -> None:
        """Write a title above the axes."""
        self.axes.set_title(words, fontsize=self.look.text, color=self.look.ink)

    def _grid(self, lines: list[Any], transform: Transform) -> None:
        style = {"colors": self.look.grid, "linewidths": self.look.stroke / 2, "zorder": 0.5, "clip_on": False}
        self.axes.add_collection(LineCollection(lines, transform=transform, **style), autolim=False)

    def _words(self, x: float, y: float, words: str, transform: Transform, **style: Any) -> None:
        self.axes.text(x, y, words, transform=transform, va="baseline", fontsize=self.look.small, **style)


def panel(look: Look, width: float, height: float, margins: tuple[float, float, float, float]) -> Panel:
    """Return a figure's only panel; margins are left, top, right, bottom; all in points."""
    return Panel(look, look.sheet(width, height), (0, 0, width, height), margins)


def round_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers that span low .. high, the outer ones beyond or on the ends."""
    high = high if high > low else low + 1e-9
    for bins in range(most - 1, 0, -1):  # the locator may take a tick more than it is told to
        ticks = MaxNLocator(nbins=bins, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        if len(ticks) <= most:
            break
    return [round(float(tick), 12) + 0.0 for tick in ticks]


def percent_labels(ticks: Sequence[float], signed: bool = False) -> list[str]:
    """Write shares as per cent, with a sign if asked for."""
    return [f"{tick * 100:{'+' if signed and tick else ''}.4g}".replace("-", "\N{MINUS SIGN}") for tick in ticks]


def short(number: float) -> str:
    """Write a large number briefly: 90k, 1.5M."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:g}{letter}"
    return f"{number:g}"


def gutter(labels: Sequence[str], size: float) -> float:
    """Return the width in points that labels to the left of axes need."""
    return max(map(len, labels), default=0) * size * LETTER + 1.3 * size


def wrap(name: str, width: float, size: float) -> list[str]:
    """Break a long name after its hyphens and before its plus signs into lines at most `width` points wide.

    A piece that is wider by itself stays whole.
    """
    pieces, lines = [""], [""]
    for letter in name:
        if pieces[-1].endswith("-") or (letter == "+" and pieces[-1]):
            pieces.append("")
        pieces[-1] += letter
    for piece in pieces:
        if lines[-1] and (len(lines[-1]) + len(piece)) * size * LETTER > width:
            lines.append("")
        lines[-1] += piece
    return lines


def spans(low: float, high: float, shown: Callable[[float], str], most: int = 6) -> tuple[list[float], list[str]]:
    """Return `round_ticks` and their labels."""
    ticks = round_ticks(low, high, most)
    return ticks, [shown(tick) for tick in ticks]
