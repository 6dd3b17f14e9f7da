"""One look for every figure: colours, sizes, and the small canvas that figures are drawn on.

Figures are SVG written by hand: each is one panel about as wide as a phone, so that a page can set panels side by side
or one below the other without shrinking their text. Colours are CSS variables, set for light and dark in
templates/style.css; the palette is Okabe and Ito's (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

from markupsafe import Markup

TEXT = 13  # size of text in a figure, in its own units
SMALL = 11
LETTER = 0.56  # width of an average letter, in sizes
DOMAIN_COLOURS = 8  # --d0 to --d7 in templates/style.css: the test domain has --d0, the natural domain --d1

ACCENT, HOT, INK, MUTE, GRID, PAPER = (f"var(--{name})" for name in ("accent", "hot", "ink", "mute", "grid", "paper"))


class Canvas:
    """A panel of `width` x `height` units that collects SVG elements."""

    def __init__(self, width: float, height: float, description: str) -> None:
        self.width, self.height, self.description = width, height, description
        self.parts: list[str] = []

    def add(self, tag: str, tip: str | None = None, **attributes: Any) -> None:
        """Add an element; `tip` is shown when a pointer rests on it. Underscores in names become hyphens."""
        text = "".join(f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
        inner = f"<title>{escape(tip)}</title>" if tip else ""
        self.parts.append(f"<{tag}{text}>{inner}</{tag}>" if inner else f"<{tag}{text}/>")

    def text(self, x: float, y: float, words: str, **attributes: Any) -> None:
        """Write words; `attributes` are SVG's, with `fill` ink and `font_size` TEXT unless given."""
        given = {"font_size": TEXT, "fill": INK} | attributes
        text = "".join(f' {key.replace("_", "-")}="{_value(value)}"' for key, value in given.items())
        self.parts.append(f'<text x="{_value(x)}" y="{_value(y)}"{text}>{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, stroke: str = GRID, **attributes: Any) -> None:
        """Draw a straight line."""
        self.add("line", x1=x1, y1=y1, x2=x2, y2=y2, stroke=stroke, **attributes)

    def curve(self, points: Iterable[tuple[float, float]], stroke: str, **attributes: Any) -> None:
        """Draw a line through points."""
        path = "M" + "L".join(f"{_value(x)} {_value(y)}" for x, y in points)
        self.add("path", d=path, fill="none", stroke=stroke, stroke_linejoin="round", **attributes)

    def dots(self, points: Iterable[tuple[float, float]], fill: str, size: float, **attributes: Any) -> None:
        """Draw equal round dots of diameter `size` as one path: a few bytes a dot."""
        path = "".join(f"M{_value(x)} {_value(y)}h0" for x, y in points)
        if path:
            self.add("path", d=path, fill="none", stroke=fill, stroke_width=size, stroke_linecap="round", **attributes)

    def render(self) -> Markup:
        """Return the figure as an inline SVG element."""
        box = f"0 0 {_value(self.width)} {_value(self.height)}"
        head = f'<svg viewBox="{box}" role="img" aria-label="{escape(self.description)}" font-size="{TEXT}">'
        return Markup(head + "".join(self.parts) + "</svg>")  # every text above is escaped


def _value(value: object) -> str:
    """Write an attribute: numbers with at most one decimal, texts escaped."""
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return escape(str(value))


def scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return the function that maps low .. high linearly to start .. end."""
    span = (high - low) or 1.0
    return lambda value: start + (float(value) - low) / span * (end - start)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return at most `most` round numbers that span low .. high, the outer ones beyond or on the ends."""
    span = max(high - low, 1e-9)
    power = 10.0**-12
    while True:
        for factor in (1, 2, 2.5, 5):
            step = factor * power
            if step * most * 4 < span:
                continue
            first, last = _floor(low / step), -_floor(-high / step)
            if last - first + 1 <= most:
                return [round(number * step, 12) for number in range(first, last + 1)]
        power *= 10


def _floor(value: float) -> int:
    """Round down, forgiving the last digits of a float."""
    nearest = round(value)
    return nearest if abs(value - nearest) < 1e-9 else int(value // 1)


def wrap(name: str, width: float, size: float = TEXT) -> list[str]:
    """Break a long name after its hyphens and plus signs into lines at most `width` wide, where it has any."""
    pieces, lines = [], [""]
    for letter in name:
        if not pieces or (pieces[-1][-1] == "-" or letter == "+"):
            pieces.append(letter)
        else:
            pieces[-1] += letter
    for piece in pieces:
        if lines[-1] and (len(lines[-1]) + len(piece)) * size * LETTER > width:
            lines.append("")
        lines[-1] += piece
    return lines


def domain_colours(domains: Sequence[str], test_domain: str, natural_domain: str) -> dict[str, str]:
    """Give each domain its colour: the test domain and the natural one always the same; beyond eight they repeat."""
    others = [d for d in domains if d not in (test_domain, natural_domain)]
    order = [test_domain, natural_domain, *others]
    return {domain: f"var(--d{_slot(position)})" for position, domain in enumerate(order)}


def _slot(position: int) -> int:
    """Return the colour of the domain at a position; the first two colours are never used twice."""
    return position if position < DOMAIN_COLOURS else 2 + (position - 2) % (DOMAIN_COLOURS - 2)
