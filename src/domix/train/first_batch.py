"""An image of a training's first batch, by which a person sees that the data are right.

It shows the images exactly as the model reads them, cropped and flipped, pixel by pixel, each with its caption.
Step 0's batch can be made alone at any time, so the image is the same whenever it is drawn: equal input, equal bytes.
"""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from domix.data.loading.augment import CLIP_MEAN, CLIP_STD
from domix.data.loading.loader import augmented

if TYPE_CHECKING:
    from torch import Tensor

    from domix.train.job import Job

Words = Callable[[list[int]], list[tuple[str, str]]]

MOST, COLUMNS = 16, 4
LINES = 4  # of a caption; what is longer ends in dots

# All lengths are pixels of the drawn image.
DPI = 100
WIDEST, GAP, MARGIN = 224, 28, 36  # of an image, between two, around all
HEAD, LINE, BELOW = 74, 19, 30  # for the heading, a line of a caption, and what stands below it
LETTER, SMALL = 7.6, 5.8  # mean widths of letters
INK, PALE, FRAME = "#2b2b2b", "#7a7a7a", "#d8d5cf"


def draw(job: Job, words: Words, *, name: str) -> bytes:
    """Return a PNG of up to 16 images of the first batch.

    Args:
        words: gives the caption of each of the samples whose rows it is given, and where it was taken from.
        name: of the run, for the heading.
    """
    rows, images = first_images(job)
    return _draw(images, words(rows), name=name, batch=job.recipe.batch)


def first_images(job: Job) -> tuple[list[int], Tensor]:
    """Return which samples come first, and their images as the model reads them: uint8 [B, size, size, 3]."""
    nothing = torch.zeros(len(job.images), dtype=torch.int64)
    # One of so many processes that each has some 16 images: no more are decoded.
    batches = job.batches(nothing, start=0, world_size=max(1, job.recipe.batch // MOST))
    inputs = augmented(batches.make(0), job.task.size)[:MOST]
    mean, std = (torch.tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    images = ((inputs * std + mean) * 255).round().clamp(0, 255).byte()
    return batches.rows(0)[: len(inputs)].tolist(), images.permute(0, 2, 3, 1)


def _draw(images: Tensor, words: list[tuple[str, str]], *, name: str, batch: int) -> bytes:
    from matplotlib.figure import Figure

    size = images.shape[1]
    factor = max(1, WIDEST // size)  # whole: each pixel becomes a square
    side = size * factor
    across = min(COLUMNS, len(images))
    down = -(-len(images) // across)
    wrapped = [(_wrap(caption, side / LETTER, LINES), *_wrap(cell, side / SMALL, 1)) for caption, cell in words]
    tall = side + max(len(lines) for lines, _ in wrapped) * LINE + BELOW + GAP
    width = max(2 * MARGIN + across * side + (across - 1) * GAP, 520)
    height = HEAD + MARGIN + down * tall - GAP + MARGIN // 2
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    _write(figure, MARGIN, height - MARGIN, f"First batch of {name}", size=15, weight="bold")
    shown = f"{len(images)} of {batch} images" if len(images) < batch else f"all {batch} images"
    about = f"{shown}, as the model reads them after crop and hflip: {size} x {size} pixels"
    _write(figure, MARGIN, height - MARGIN - 30, about, size=10, color=PALE)
    for number, (image, (lines, cell)) in enumerate(zip(images, wrapped, strict=True)):
        row, column = divmod(number, across)
        left, top = MARGIN + column * (side + GAP), height - MARGIN - HEAD - row * tall
        large = image.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        figure.figimage(large.numpy(), left, top - side)
        _frame(figure, (left, top - side), side)
        _write(figure, left, top - side - 8, "\n".join(lines), size=10)
        below = top - side - 8 - len(lines) * LINE - 3
        _write(figure, left, below, cell, size=8, color=PALE)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # captions may be in any script
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def _wrap(text: str, letters: float, lines: int) -> list[str]:
    return textwrap.wrap(text, max(int(letters), 12), max_lines=lines, placeholder=" ...") or [""]


def _frame(figure: Any, corner: tuple[int, int], side: int) -> None:
    """Draw a line around an image, outside of its pixels: white drawings on white would have no edge."""
    from matplotlib.patches import Rectangle

    width, height = figure.get_size_inches() * DPI
    x, y = corner[0] - 1.5, corner[1] - 1.5
    figure.add_artist(
        Rectangle(
            (x / width, y / height),
            (side + 3) / width,
            (side + 3) / height,
            fill=False,
            edgecolor=FRAME,
            linewidth=72 / DPI,  # a pixel
            transform=figure.transFigure,
        )
    )


def _write(
    figure: Any, x: float, y: float, text: str, *, size: float, color: str = INK, weight: str = "normal"
) -> None:
    width, height = figure.get_size_inches() * DPI
    figure.text(
        x / width,
        y / height,
        text,
        va="top",
        fontsize=size,
        color=color,
        weight=weight,
        linespacing=1.25,
        parse_math=False,
    )
