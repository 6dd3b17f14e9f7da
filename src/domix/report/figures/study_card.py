"""The study in one image, for a README or a slide: mixtures as cells and the result, as one SVG that stands alone."""

from __future__ import annotations

import re
from html import escape

from domix.figures import page
from domix.figures.look import PAGE
from domix.report.figures.accuracies import accuracies
from domix.report.figures.cells import cells
from domix.report.load.study import Results
from domix.report.tables import words

GAP, HEAD, COLUMNS = 36.0, 44.0, 3
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"


def draw(study: Results, css: str) -> str:
    """Return the image as the text of an SVG file; `css` sets the colours (templates/style.css)."""
    width = COLUMNS * PAGE.panel + (COLUMNS + 1) * GAP
    parts: list[str] = []
    y = GAP
    panels = [(mixture, page.svg(figure)) for mixture, figure in cells(study)]
    for start in range(0, len(panels), COLUMNS):
        row = panels[start : start + COLUMNS]
        for column, (mixture, panel) in enumerate(row):
            x = GAP + column * (PAGE.panel + GAP)
            parts.append(_text(x, y + PAGE.text, mixture, 'fill="var(--ink)" font-weight="700"', PAGE.text + 2))
            shown = words.shown(study, mixture)
            parts.append(_text(x, y + PAGE.text + 18, shown, 'fill="var(--mute)"', PAGE.small))
            parts.append(_placed(panel, x, y + HEAD, PAGE.panel))
        y += HEAD + max(_height(panel, PAGE.panel) for _, panel in row) + GAP
    wide = (width - 3 * GAP) / 2
    results = [(title, page.svg(figure)) for title, figure in _results(study)]
    for column, (title, panel) in enumerate(results):
        x = GAP + column * (wide + GAP)
        parts.append(_text(x, y + PAGE.text, title, 'fill="var(--ink)" font-weight="700"', PAGE.text + 2))
        parts.append(_placed(panel, x, y + HEAD - 12, wide))
    height = y + HEAD + max((_height(panel, wide) for _, panel in results), default=0.0) + GAP / 2
    said = f"What each model was shown, and how well it reads {study.test_domain} images held out."
    return _file("".join(parts), width, height, said, css)


def _results(study: Results) -> list[tuple[str, page.Figure]]:
    titles = {
        "held_out": f"Held out: {study.test_domain} images of the test classes",
        "seen": f"Seen: {study.test_domain} images of all other classes",
    }
    figures = accuracies(study)
    return [(title, figures[name]) for name, title in titles.items() if name in figures]


def _text(x: float, y: float, words: str, style: str, size: float) -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" {style}>{escape(words, quote=False)}</text>'


def _height(panel: str, width: float) -> float:
    """Return how high a panel of a width is."""
    own = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', panel)
    return float(own[2]) * width / float(own[1]) if own else 0.0


def _placed(panel: str, x: float, y: float, width: float) -> str:
    """Return the panel as an SVG element inside another, at a place and of a width."""
    place = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_height(panel, width):.0f}" overflow="visible"'
    return panel.replace("<svg ", f"<svg {place} ", 1)


def _file(body: str, width: float, height: float, said: str, css: str) -> str:
    """Return the whole file: the theme's colours, a ground, and the drawing."""
    light, dark = (css.split(start, 1)[1].split("}", 1)[0] for start in (":root {", ':root[data-theme="dark"] {'))
    style = f"svg {{{light}}} @media (prefers-color-scheme: dark) {{ svg {{{dark}}} }} text {{ font-family: {FONT}; }}"
    size = f'width="{width:.0f}" height="{height:.0f}"'
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(said)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box}>'
    ground = f'<style>{escape(style, quote=False)}</style><rect {size} fill="var(--paper)"/>'
    return f"{head}{ground}{body}</svg>\n"
