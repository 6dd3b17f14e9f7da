"""Figures for print: PNG, SVG and PDF files; equal figures give equal bytes."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import matplotlib as mpl

from domix.figures.figure import Figure
from domix.figures.look import PRINT

FORMATS = ("png", "svg", "pdf")
DPI = 300
UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(figure: Figure, folder: Path) -> float:
    """Write a figure into a folder in every format, `<name>.<format>`, and return its width in inches."""
    with mpl.rc_context(PRINT.settings()):
        drawn = figure.draw(PRINT)
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")  # what was laid out once is not laid out again for every format
        for ending in FORMATS:
            file = folder / f"{figure.name}.{ending}"
            drawn.savefig(file, dpi=DPI, facecolor=PRINT.paper, metadata=UNDATED[ending])
    return float(drawn.get_figwidth())


def page_style() -> str:
    """Return the style sheet of pages that show printed figures beside tables."""
    return importlib.resources.files("domix.figures").joinpath("printed.css").read_text(encoding="utf-8")
