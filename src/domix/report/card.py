"""The study in one picture, for a README or a slide: mixtures as cells and the result, as one SVG that stands alone."""

from __future__ import annotations

from html import escape

from markupsafe import Markup

from domix.report import figures, words
from domix.report.figures import PANEL
from domix.report.study import Results
from domix.report.style import MUTE, PAPER, SMALL, TEXT, Canvas

GAP, HEAD, COLUMNS = 36.0, 44.0, 3
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


def draw(study: Results, css: str) -> str:
    """Return the picture as the text of an SVG file; `css` sets the colours (templates/style.css)."""
    width = COLUMNS * PANEL + (COLUMNS + 1) * GAP
    frame = Canvas(width, 0, f"What each model was shown, and how well it reads {study.test_domain} pictures withheld.")
    y = GAP
    for row in _rows(figures.cells(study), COLUMNS):
        for column, (mixture, panel) in enumerate(row):
            x = GAP + column * (PANEL + GAP)
            frame.text(x, y + TEXT, mixture, font_weight=700, font_size=TEXT + 2)
            frame.text(x, y + TEXT + 18, words.shown(study, mixture), font_size=SMALL, fill=MUTE)
            frame.parts.append(_placed(panel, x, y + HEAD, PANEL))
        y += HEAD + max(_height(panel, PANEL) for _, panel in row) + GAP
    wide = (width - 3 * GAP) / 2
    panels = [(f"Withheld: {study.test_domain} pictures of the test classes", "withheld", "withheld")]
    panels.append((f"Seen: {study.test_domain} pictures of all other classes", "seen", "seen"))
    drawn = [(title, figures.accuracies(study, name, study.test_domain, cells)) for title, name, cells in panels]
    for column, (title, panel) in enumerate(drawn):
        x = GAP + column * (wide + GAP)
        frame.text(x, y + TEXT, title, font_weight=700, font_size=TEXT + 2)
        frame.parts.append(_placed(panel, x, y + HEAD - 12, wide))
    frame.height = y + HEAD + max(_height(panel, wide) for _, panel in drawn) + GAP / 2
    return _file(frame, css)


def _rows(items: list[tuple[str, Markup]], most: int) -> list[list[tuple[str, Markup]]]:
    return [items[start : start + most] for start in range(0, len(items), most)]


def _box(panel: Markup) -> tuple[float, float]:
    """Return a panel's own width and height, from its viewBox."""
    numbers = str(panel).split('viewBox="', 1)[1].split('"', 1)[0].split()
    return float(numbers[2]), float(numbers[3])


def _height(panel: Markup, width: float) -> float:
    own = _box(panel)
    return own[1] * width / own[0]


def _placed(panel: Markup, x: float, y: float, width: float) -> str:
    """Return the panel as an SVG element inside another, at a place and of a width."""
    place = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_height(panel, width):.0f}" overflow="visible"'
    return str(panel).replace("<svg ", f"<svg {place} ", 1)


def _file(frame: Canvas, css: str) -> str:
    """Return the whole file: the theme's colours, a ground, and the drawing."""
    light, dark = (css.split(start, 1)[1].split("}", 1)[0] for start in (":root {", ':root[data-theme="dark"] {'))
    style = f"svg {{{light}}} @media (prefers-color-scheme: dark) {{ svg {{{dark}}} }} text {{ font-family: {FONT}; }}"
    size = f'width="{frame.width:.0f}" height="{frame.height:.0f}"'
    ground = f"<style>{escape(style, quote=False)}</style><rect {size} fill='{PAPER}'/>"
    body = str(frame.render()).replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" {size} ', 1)
    start = body.index(">") + 1
    return f"{body[:start]}{ground}{body[start:]}\n"
