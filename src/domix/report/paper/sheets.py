"""How figures of the study view are laid out: each mixture's line, panels side by side, a key below; or that one lacks.

Each mixture has a marker and a line style besides its colour, so that nothing is told by colour alone, and a grey print
reads the same. The colours are Okabe and Ito's (2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.figure
from matplotlib.lines import Line2D

from domix.figures.charts import Line
from domix.figures.figure import Figure
from domix.figures.look import MM, POINTS_PER_INCH, Look
from domix.figures.panel import Panel
from domix.report.paper.mixtures import MAIN

ACROSS = 3  # panels in a row
KEY_LETTER, KEY_HANDLE, KEY_ROW = 1.45 * MM, 12.0 * MM, 3.6 * MM  # of a key: a letter, what is before a name, a row
MARK = 5 * MM  # height of the line that says that a study is unfinished
MARKER = 4.0

_DASHED, _DOTTED, _BROKEN = (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1))
_MAIN = {
    "natural-only": ("#33383f", "s", _DOTTED),
    "leave-out-domain": ("#d55e00", "D", _DASHED),
    "cg-low": ("#56b4e9", "v", "-"),
    "cg-high": ("#0072b2", "o", "-"),
    "cg-low-all": ("#56b4e9", "v", _BROKEN),
    "cg-high-all": ("#0072b2", "o", _BROKEN),
}
_COLOURS, _MARKERS = ("#009e73", "#cc79a7", "#e69f00", "#a89a00", "#000000"), ("^", "P", "X", "<", ">", "p", "h")
_LINES = ("-", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))


@dataclass(frozen=True)
class Absent:
    """A figure whose data are not there; `reason` says what would bring them."""

    name: str
    title: str
    reason: str


Shown = Sequence[Figure | Absent]


def lines_of(mixtures: Sequence[str], width: float) -> dict[str, Line]:
    """Give each mixture its line: the main ones always the same, others in turn; upper bounds have hollow markers."""
    others = [name for name in mixtures if name not in MAIN]
    turn = {
        name: (_COLOURS[n % len(_COLOURS)], _MARKERS[n % len(_MARKERS)], _LINES[n % len(_LINES)])
        for n, name in enumerate(others)
    }
    looks = {name: _MAIN.get(name) or turn[name] for name in mixtures}
    return {
        name: Line(colour, width, dashes, marker, hollow=name in _MAIN and name.endswith("-all"), front=3)
        for name, (colour, marker, dashes) in looks.items()
    }


def handles_of(look: Look, lines: dict[str, Line], names: Sequence[str], *, drawn: bool = True) -> list[Line2D]:
    """Return the entries of a key for mixtures; `drawn`: with their lines and not their markers alone."""
    return [
        Line2D(
            [],
            [],
            color=lines[name].colour,
            lw=lines[name].width,
            ls=lines[name].dashes if drawn else "",
            label=name,
            **lines[name].markers(look, MARKER),
        )
        for name in names
    ]


def keyed_sheet(
    look: Look, width: float, height: float, handles: Sequence[Line2D], mark: str
) -> tuple[matplotlib.figure.Figure, float]:
    """Return a sheet with room of a height above its key, and where that room begins.

    `mark` is written above an unfinished study; the key has as many entries a row as there is room for.
    """
    across, rows = 1, 0
    if handles:
        longest = max(len(str(handle.get_label())) for handle in handles)
        across = min(len(handles), max(1, int(width / (longest * KEY_LETTER + KEY_HANDLE))))
        rows = -(-len(handles) // across)
    top = MARK if mark else 0.0
    figure = look.sheet(width, top + height + (rows + bool(rows)) * KEY_ROW)
    if handles:
        figure.legend(handles=list(handles), loc="lower center", ncols=across, columnspacing=1.2, borderaxespad=0.2)
    if mark:
        whole = figure.get_figheight() * POINTS_PER_INCH
        place = (0.995, 1 - 0.7 * MARK / whole)
        figure.text(*place, mark, color=look.hot, fontweight="bold", ha="right", va="baseline", fontsize=look.small)
    return figure, top


def panels(
    look: Look,
    titles: Sequence[str],
    height: float,
    margins: tuple[float, float, float, float],
    handles: Sequence[Line2D],
    mark: str,
) -> tuple[matplotlib.figure.Figure, list[Panel]]:
    """Return a figure with a titled panel for each title: one fills a column, more stand in rows of up to three.

    Args:
        height: of a row of panels, points; `margins`: left, top, right, bottom of each, points.
        handles: the key's entries; `mark`: what is written above an unfinished study.
    """
    across = min(len(titles), ACROSS)
    width = look.panel if across == 1 else look.wide
    figure, top = keyed_sheet(look, width, height * -(-len(titles) // across), handles, mark)
    made = []
    for place, title in enumerate(titles):
        row, column = divmod(place, across)
        box = (column * width / across, top + row * height, width / across, height)
        made.append(Panel(look, figure, box, margins))
        made[-1].title(f"test domain: {title}")
    return figure, made
