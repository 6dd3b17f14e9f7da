"""A figure of the study view with its words, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """One figure; `figure` is None where the data do not hold it, and `caption` then says why."""

    name: str  # of its files
    title: str
    caption: str
    figure: Figure | None = None
