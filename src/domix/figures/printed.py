"""Figures for print: PNG, SVG and PDF files; equal figures give equal bytes."""

from __future__ import annotations

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


def save(figure: Figure, folder: Path) -> list[Path]:
    """Write a figure into a folder in every format and return the files."""
    files = [folder / f"{figure.name}.{ending}" for ending in FORMATS]
    with mpl.rc_context(PRINT.settings()):
        drawn = figure.draw(PRINT)
        drawn.draw_without_rendering()
        drawn.set_layout_engine("none")  # what was laid out once is not laid out again for every format
        for file in files:
            drawn.savefig(file, dpi=DPI, facecolor=PRINT.paper, metadata=UNDATED[file.suffix[1:]])
    return files
