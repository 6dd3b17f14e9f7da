"""One look for figures in print: sizes of a column and a page, a palette, markers, and files with equal bytes.

The colours are Okabe and Ito's (2008), which colour-blind readers can tell apart; each mixture has a marker and a line
style as well, so that nothing is told by colour alone, and a grey print reads the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from domix.report.paper.mixtures import MAIN

INCH = 25.4  # millimetres
COLUMN, PAGE = 89.0, 183.0  # widths in print, millimetres
LETTER, HANDLE, LINE = 1.45, 12.0, 3.6  # of a legend: an average letter, what stands before a name, a row; millimetres
FORMATS = ("png", "svg", "pdf")
DPI = 300
INK, MUTE, GRID, ALARM = "#1b1f24", "#56606b", "#d5dbe1", "#b84a00"
STYLE: Any = {  # of matplotlib
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],  # the first comes with matplotlib
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.titlesize": 7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTE,
    "xtick.color": MUTE,
    "ytick.color": MUTE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.1,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "domix",  # ids in the file do not change from run to run
    "pdf.fonttype": 42,
    "figure.dpi": 100,
    "savefig.dpi": DPI,
}
UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Look:
    """How a mixture is drawn; upper bounds have hollow markers."""

    colour: str
    marker: str
    line: Any  # matplotlib's line style
    hollow: bool = False

    def marks(self, size: float = 4.0) -> dict[str, Any]:
        """Return the keywords of its markers."""
        face = "white" if self.hollow else self.colour
        return {"marker": self.marker, "ms": size, "mfc": face, "mec": self.colour, "mew": 0.9}


_MAIN = {
    "natural-only": Look("#33383f", "s", (0, (1, 1))),
    "leave-out-domain": Look("#d55e00", "D", (0, (4, 1.5))),
    "cg-low": Look("#56b4e9", "v", "-"),
    "cg-high": Look("#0072b2", "o", "-"),
    "cg-low-all": Look("#56b4e9", "v", (0, (4, 1, 1, 1)), hollow=True),
    "cg-high-all": Look("#0072b2", "o", (0, (4, 1, 1, 1)), hollow=True),
}
_COLOURS, _MARKERS = ("#009e73", "#cc79a7", "#e69f00", "#a89a00", "#000000"), ("^", "P", "X", "<", ">", "p", "h")
_LINES = ("-", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))


def looks(mixtures: Sequence[str]) -> dict[str, Look]:
    """Give each mixture its look: the main ones always the same, others in turn."""
    others = [name for name in mixtures if name not in MAIN]
    turn = {
        name: Look(_COLOURS[n % len(_COLOURS)], _MARKERS[n % len(_MARKERS)], _LINES[n % len(_LINES)])
        for n, name in enumerate(others)
    }
    return {name: _MAIN.get(name) or turn[name] for name in mixtures}


def sheet(width: float, height: float, mark: str = "") -> Figure:
    """Return an empty figure of some millimetres; `mark` is written above an unfinished study."""
    figure = Figure(figsize=(width / INCH, height / INCH), layout="constrained")
    if mark:
        figure.suptitle(mark, color=ALARM, fontweight="bold", x=0.995, ha="right")
    return figure


def panels(titles: Sequence[str], height: float, mark: str = "", **shared: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure with a titled panel for each title: one fills a column, more stand in rows of up to three.

    Args:
        height: of a row of panels, millimetres.
        shared: for matplotlib's `subplots`, such as sharey.
    """
    across = min(len(titles), 3)
    down = -(-len(titles) // across)
    figure = sheet(COLUMN if across == 1 else PAGE, height * down + (5 if mark else 0), mark)
    axes = figure.subplots(down, across, squeeze=False, **shared).ravel().tolist()
    for axis, title in zip(axes, titles, strict=False):
        axis.set_title(f"test domain: {title}")
    for axis in axes[len(titles) :]:
        axis.set_axis_off()
    return figure, axes[: len(titles)]


def key(
    figure: Figure, names: Sequence[str], styles: dict[str, Look], *, lines: bool, extra: Sequence[Line2D] = ()
) -> None:
    """Write the legend below the panels, as many entries a row as there is room for; the figure grows by its height."""
    handles = [_handle(name, styles[name], lines) for name in names] + list(extra)
    longest = max(len(str(handle.get_label())) for handle in handles)
    across = min(len(handles), max(1, int(figure.get_figwidth() * INCH / (longest * LETTER + HANDLE))))
    figure.set_figheight(figure.get_figheight() + (-(-len(handles) // across) * LINE + LINE) / INCH)
    figure.legend(handles=handles, loc="outside lower center", ncols=across, columnspacing=1.2)


def _handle(name: str, look: Look, lines: bool) -> Line2D:
    return Line2D([], [], color=look.colour, ls=look.line if lines else "", label=name, **look.marks())


def percent_axis(axis: Any, ticks: Sequence[float] | None = None) -> None:
    """Write the ticks of an axis (axes.xaxis or .yaxis) as per cent."""
    if ticks is not None:
        axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g}"))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure in every format; equal figures give equal bytes."""
    with mpl.rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # what was laid out once is not laid out again for every format
        for ending in FORMATS:
            figure.savefig(folder / f"{name}.{ending}", metadata=UNDATED[ending])
