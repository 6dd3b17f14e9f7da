"""A panel: a part of a figure with data coordinates, margins in points, and what stands in the margins.

It is no Axes of matplotlib: those take most of a small figure's time, and know nothing of the fonts of the page that
shows it. So grid lines and labels are plain artists, at the places that matplotlib's locator finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, Transform, blended_transform_factory

from domix.figures.look import LETTER, POINTS_PER_INCH, Look

GRID_ORDER = 0.5  # grid lines lie below all else


class Panel:
    """One panel in a figure.

    `box` is its place in the figure (x, y of the left upper corner, width, height), and `margins` (left, top, right,
    bottom) the room around its plane in there, all in points. Artists stand in data coordinates, from `low` to `high`
    across and up, unless they bring a transform: `beside` and `below` have one coordinate in points, from the panel's
    left edge or from the plane's lower end downwards.
    """

    def __init__(
        self, look: Look, figure: Figure, box: tuple[float, float, float, float], margins: tuple[float, ...]
    ) -> None:
        self.look, self.figure = look, figure
        self.left, self.top, self.right, self.bottom = margins
        x, y, width, height = box
        self.width, self.height = width - self.left - self.right, height - self.top - self.bottom
        lower = figure.get_figheight() * POINTS_PER_INCH - (y + height - self.bottom)  # points from the figure's foot
        in_points = Affine2D().scale(1 / POINTS_PER_INCH) + figure.dpi_scale_trans
        self._points: Transform = in_points
        self._corner = (x + self.left, lower)
        self._scale = Affine2D()
        self.data: Transform = self._scale + in_points
        self.beside: Transform = blended_transform_factory(Affine2D().translate(x, 0) + in_points, self.data)
        down = Affine2D().scale(1, -1).translate(0, lower)
        self.below: Transform = blended_transform_factory(self.data, down + in_points)
        self.limits((0, 1), (0, 1))

    def limits(self, across: tuple[float, float], up: tuple[float, float]) -> None:
        """Set the ranges of the data; a range may run backwards."""
        self.across, self.up = across, up
        sizes = (self.width / (across[1] - across[0]), self.height / (up[1] - up[0]))
        self._scale.clear().translate(-across[0], -up[0]).scale(*sizes).translate(*self._corner)

    def add(self, artist: Artist, tip: str = "") -> None:
        """Add an artist, in data coordinates unless it has a transform; a pointer that rests on it shows `tip`."""
        if not artist.is_transform_set():
            artist.set_transform(self.data)
        self.figure.add_artist(artist)
        if tip:
            self.look.tip(artist, tip)

    def text(self, x: float, y: float, words: str, **style: Any) -> None:
        """Write words; `style` are matplotlib's keywords of a text."""
        given: dict[str, Any] = {"transform": self.data, "zorder": 3, "clip_on": False} | style
        self.add(Text(x, y, words, **given))

    def mark_across(self, at: Sequence[float], labels: Sequence[str], title: str = "", lines: bool = False) -> None:
        """Write labels below the plane at places across it, with grid lines if asked for, and a title below those."""
        size = self.look.small
        style: dict[str, Any] = {"transform": self.below, "ha": "center", "va": "baseline", "color": self.look.mute}
        if lines:
            self._grid([((x, self.up[0]), (x, self.up[1])) for x in at])
        for x, label in zip(at, labels, strict=True):
            self.text(x, size * 1.45, label, **style)
        if title:
            self.text(sum(self.across) / 2, size * 3.0, title, **style)

    def mark_up(self, at: Sequence[float], labels: Sequence[str], title: str = "") -> None:
        """Draw grid lines at heights, and write labels to their left, and a title, turned, to the left of those."""
        self._grid([((self.across[0], y), (self.across[1], y)) for y in at])
        for y, label in zip(at, labels, strict=True):
            self.label(y, label, color=self.look.mute)
        if title:
            turned: dict[str, Any] = {"rotation": 90, "ha": "left", "va": "center", "ma": "center"}
            self.text(0.3 * self.look.small, sum(self.up) / 2, title, transform=self.beside, **turned)

    def label(self, y: float, words: str, **style: Any) -> None:
        """Write words to the left of the plane at a height."""
        place: dict[str, Any] = {"ha": "right", "va": "center_baseline", "transform": self.beside}
        self.text(self.left - self.look.small * 0.55, y, words, **place | style)

    def title(self, words: str) -> None:
        """Write a title above the plane."""
        x, y = self._corner
        place: dict[str, Any] = {"ha": "center", "va": "baseline", "transform": self._points}
        self.text(x + self.width / 2, y + self.height + 0.7 * self.look.small, words, fontsize=self.look.text, **place)

    def _grid(self, lines: list[Any]) -> None:
        style: dict[str, Any] = {"colors": self.look.grid, "linewidths": self.look.stroke / 2, "zorder": GRID_ORDER}
        self.add(LineCollection(lines, **style))


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


def ticks_within(end: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers from 0 to `end`, the last of them below it or on it."""
    return [tick for tick in round_ticks(0, end, most + 1) if tick <= end * (1 + 1e-9)]


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
