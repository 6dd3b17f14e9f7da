"""Rows of small images side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import BboxImage
from matplotlib.transforms import Bbox, TransformedBbox
from numpy.typing import NDArray

from domix.figures.look import Look
from domix.figures.panel import Panel, panel


@dataclass(frozen=True)
class ImageRow:
    """A row: what stands above it, and its images, each uint8 [H, W, 3] or None where there is none."""

    words: str
    images: Sequence[NDArray[np.uint8] | None]


def image_rows(look: Look, heads: Sequence[str], rows: Sequence[ImageRow]) -> Figure:
    """Draw rows of equally many square images under common heads, each row under its words."""
    size, gap = look.small, 0.4 * look.small
    side = (look.wide - gap * (len(heads) - 1)) / len(heads)
    above = 1.7 * size  # room for a row's words
    lines = max(head.count("\n") for head in heads) + 1
    top = 1.25 * size * lines
    made = panel(look, look.wide, top + len(rows) * (above + side + gap), (0, 0, 0, 0))
    made.limits((0, made.width), (made.height, 0))  # data are points, downwards
    for column, head in enumerate(heads):
        made.text(column * (side + gap) + side / 2, top, head, ha="center", va="bottom", ma="center", color=look.mute)
    for place, row in enumerate(rows):
        y = top + place * (above + side + gap)
        made.text(0, y + above - 0.5 * size, row.words, va="baseline")
        for column, pixels in enumerate(row.images):
            if pixels is not None:
                _image(made, pixels, (column * (side + gap), y + above, side))
    return made.figure


def _image(made: Panel, pixels: NDArray[np.uint8], place: tuple[float, float, float]) -> None:
    """Draw an image into a square: x, y of its left upper corner, and side."""
    x, y, side = place
    box = TransformedBbox(Bbox([[x, y], [x + side, y + side]]), made.data)  # downwards, as rows are
    drawn = BboxImage(box, interpolation="auto", origin="upper")
    drawn.set_data(pixels)
    drawn.set_clip_on(False)
    made.add(drawn)
