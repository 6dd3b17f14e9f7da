"""Thumbnails: small square images in a panel, each in a frame."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.image import BboxImage
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox, TransformedBbox
from numpy.typing import NDArray
from PIL import Image, ImageOps

from domix.figures.panel import Panel

SIDE = 64  # dots


def read(uri: str) -> NDArray[np.uint8]:
    """Return the image of a data URI as uint8 [SIDE, SIDE, 3], cut to a square about its middle, upon white."""
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        seen = ImageOps.fit(image.convert("RGBA"), (SIDE, SIDE))
    ground = Image.new("RGBA", seen.size, "white")
    return np.asarray(Image.alpha_composite(ground, seen).convert("RGB"))


def put(
    made: Panel, at: tuple[float, float], side: float, image: NDArray[np.uint8], frame: str, strength: float, tip: str
) -> None:
    """Draw an image about a place in data coordinates.

    Args:
        made: where.
        at: the place of its middle.
        side: in points.
        image: uint8 [.., .., 3].
        frame: colour of its frame.
        strength: of that colour, in 0..1.
        tip: shown when a pointer rests on it.
    """
    spans = ((made.width, made.across), (made.height, made.up))
    width, height = (side / length * abs(span[1] - span[0]) for length, span in spans)
    box = Bbox.from_bounds(at[0] - width / 2, at[1] - height / 2, width, height)
    picture = BboxImage(TransformedBbox(box, made.data), data=image, interpolation="antialiased", zorder=2)
    picture.set_clip_on(False)
    made.add(picture)
    style: dict[str, Any] = {"fc": (1, 1, 1, 0.01), "lw": made.look.stroke, "zorder": 3, "clip_on": False}
    made.add(Rectangle(box.p0, box.width, box.height, ec=made.look.paper, **style))  # lets no edge shine through
    made.add(Rectangle(box.p0, box.width, box.height, ec=to_rgba(frame, strength), **style), tip)
