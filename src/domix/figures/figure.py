"""A figure: its words, and how it is drawn in a given look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.figure

from domix.figures.look import Look


@dataclass(frozen=True)
class Figure:
    """One figure of a page and of print. Where its data are not there, it is not made.

    `name` is that of its files and unique on a page; `alt` says what it shows to those who cannot see it; `draw`
    is called within the look's matplotlib settings and may be called more than once.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Look], matplotlib.figure.Figure]
