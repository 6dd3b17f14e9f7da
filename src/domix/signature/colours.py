"""The dominant colour of an image, by name: one of the eleven basic colour terms (Berlin and Kay 1969).

Each pixel has the name of the nearest of some reference colours in CIELAB (D65; distance CIE 1976), where a name may
have several: light blue is blue. Pixels are first cut to five bits a channel, so that a table of 32,768 entries holds
all answers. White is taken for the ground: an image is white only where less than one pixel in a hundred is not;
otherwise the name of most of the other pixels is its dominant colour, of equal ones the first in COLOURS.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from domix.runtime.errors import DataError

WHITE = "white"
COLOURS: dict[str, tuple[tuple[int, int, int], ...]] = {  # name -> reference colours, sRGB
    "black": ((0, 0, 0), (35, 35, 40)),
    "blue": ((20, 60, 200), (60, 130, 230), (90, 175, 240), (0, 0, 110), (175, 215, 245), (50, 90, 130)),
    "brown": ((120, 70, 30), (90, 40, 20), (165, 100, 60), (195, 145, 100)),
    "green": ((0, 130, 40), (110, 180, 80), (0, 75, 30), (150, 215, 130), (90, 100, 40), (0, 160, 140)),
    "grey": ((128, 128, 128), (80, 82, 85), (175, 178, 182), (215, 217, 220)),
    "orange": ((255, 140, 0), (240, 110, 30), (255, 175, 90)),
    "pink": ((255, 150, 190), (235, 85, 150), (250, 200, 215)),
    "purple": ((125, 40, 150), (170, 130, 220), (80, 30, 110)),
    "red": ((220, 30, 40), (150, 10, 25), (235, 75, 70)),
    WHITE: ((255, 255, 255), (243, 243, 243)),
    "yellow": ((255, 215, 0), (255, 205, 75), (250, 240, 140), (220, 190, 40)),
}
NAMES = tuple(COLOURS)
LEAST = 0.01  # of the pixels, that must not be white
BITS = 5  # of a channel


def dominant_colour(pixels: NDArray[np.uint8]) -> str:
    """Return the name of an image's dominant colour, from its pixels uint8 [H, W, 3].

    Raises:
        DataError: there are no pixels, or they are of another kind.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise DataError(f"pixels are {pixels.dtype} of shape {pixels.shape}: give uint8 [height, width, 3]")
    high = pixels.reshape(-1, 3).astype(np.int32) >> (8 - BITS)
    names = _table()[(high[:, 0] << 2 * BITS) | (high[:, 1] << BITS) | high[:, 2]]
    counts = np.bincount(names, minlength=len(NAMES))
    counts[NAMES.index(WHITE)] = 0
    return NAMES[int(counts.argmax())] if counts.sum() >= LEAST * len(names) else WHITE


def lab(colours: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return sRGB colours [..., 3], 0 to 255, in CIELAB for the white of D65 (IEC 61966-2-1, CIE 15)."""
    shares = np.asarray(colours, dtype=np.float64) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    root = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@cache
def _table() -> NDArray[np.int64]:
    """Return the place in NAMES of every colour of BITS bits a channel [2 ^ (3 BITS)]."""
    levels = (np.arange(1 << BITS) + 0.5) * (1 << (8 - BITS))
    grid = np.stack([axis.ravel() for axis in np.meshgrid(levels, levels, levels, indexing="ij")], axis=1)
    every = lab(grid.astype(np.float64))
    owners = np.repeat(np.arange(len(NAMES)), [len(colours) for colours in COLOURS.values()])
    known = lab(np.array([colour for colours in COLOURS.values() for colour in colours], dtype=np.float64))
    found = np.zeros(len(every), dtype=np.int64)
    best = np.full(len(every), np.inf)
    for owner, reference in zip(owners, known, strict=True):
        apart = ((every - reference) ** 2).sum(axis=1)
        found, best = np.where(apart < best, owner, found), np.minimum(apart, best)
    return found
