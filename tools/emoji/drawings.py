"""From packages to SVG: read verified npm tarballs, and find an artist's drawing of an object as one SVG text."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.emoji.artists import Artist
from tools.emoji.objects import Object

Drawings = Callable[[Object], str | None]
"""Gives an artist's drawing of an object as SVG, or None where the artist has not drawn it."""

FONT_FILE = "400Regular/NotoEmoji_400Regular.ttf"
FONT_MARGIN = 1.08  # side of the image over the longer side of the glyph
VARIATION_SELECTOR = "FE0F"  # asks for a coloured image; fonts name glyphs without it


class Package:
    """The files of one npm package, read from its tarball after its digest has been checked."""

    def __init__(self, artist: Artist, folder: Path) -> None:
        path = folder / artist.tarball
        if not path.exists():
            subprocess.run(["npm", "pack", f"{artist.package}@{artist.version}"], cwd=folder, check=True)
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != artist.sha256:
            raise ValueError(f"{path} has SHA-256 {digest}, not {artist.sha256}: delete it and run again")
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            wanted = (member for member in tar if member.isfile() and _is_wanted(artist, member.name))
            self._files = {_inside(m.name): file.read() for m in wanted if (file := tar.extractfile(m))}

    def read(self, name: str) -> bytes:
        """Return one file of the package, by its path below the package's root."""
        return self._files[name]

    def has(self, name: str) -> bool:
        """Return whether the package has this file."""
        return name in self._files


def _inside(member: str) -> str:
    """Return a member's path below the package's root folder."""
    return member.partition("/")[2]


def _is_wanted(artist: Artist, member: str) -> bool:
    """Keep only what is read: OpenMoji's package holds 20,000 files."""
    name = _inside(member)
    if name.startswith("LICENSE"):
        return True
    return {"iconify": name == "icons.json", "openmoji": name.startswith("black/svg/"), "font": name == FONT_FILE}[
        artist.kind
    ]


def open_drawings(artist: Artist, package: Package) -> Drawings:
    """Return the look-up from objects to this artist's drawings."""
    if artist.kind == "iconify":
        collection = json.loads(package.read("icons.json"))
        return lambda thing: iconify_svg(collection, thing.emoji)
    if artist.kind == "openmoji":
        return lambda thing: _openmoji_svg(package, thing)
    return _font_drawings(package.read(FONT_FILE))


def iconify_svg(collection: dict[str, Any], name: str) -> str | None:
    """Put an icon of an Iconify collection (icons.json) together as SVG, black where it says currentColor.

    Args:
        collection: `icons`, `aliases` (name -> parent), and default `width`, `height`, `left`, `top`.
        name: an icon or an alias of one.

    Raises:
        ValueError: an alias or icon that mirrors or turns its parent, which none of the pinned packages has among the
            objects, or aliases in a circle.
    """
    icons, aliases = collection["icons"], collection.get("aliases", {})
    visited = set()
    while name not in icons:
        if name not in aliases:
            return None
        if name in visited:
            raise ValueError(f"the alias {name} leads back to itself")
        visited.add(name)
        if set(aliases[name]) != {"parent"}:
            raise ValueError(f"the alias {name} changes its parent: {aliases[name]}")
        name = aliases[name]["parent"]
    icon = icons[name]
    if odd := set(icon) - {"body", "width", "height", "left", "top", "hidden"}:
        raise ValueError(f"the icon {name} has properties that this tool does not draw: {sorted(odd)}")
    default = {"left": 0, "top": 0, "width": 16, "height": 16}
    box = " ".join(str(icon.get(key, collection.get(key, default[key]))) for key in default)
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {spaces} viewBox="{box}" color="#000">{icon["body"]}</svg>'


def _openmoji_svg(package: Package, thing: Object) -> str | None:
    name = f"black/svg/{thing.code_points}.svg"
    return package.read(name).decode() if package.has(name) else None


def single_code_point(code_points: str) -> int | None:
    """Return the one code point of `1F435` or `2600-FE0F`; None for sequences, which fonts hold as ligatures."""
    parts = [part for part in code_points.split("-") if part.upper() != VARIATION_SELECTOR]
    return int(parts[0], 16) if len(parts) == 1 else None


def _font_drawings(content: bytes) -> Drawings:
    from fontTools.pens.boundsPen import BoundsPen
    from fontTools.pens.svgPathPen import SVGPathPen
    from fontTools.ttLib import TTFont

    font = TTFont(io.BytesIO(content))
    glyphs, names = font.getGlyphSet(), font.getBestCmap() or {}

    def draw(thing: Object) -> str | None:
        code_point = single_code_point(thing.code_points)
        if code_point not in names:
            return None
        name = names[code_point]
        path, bounds = SVGPathPen(glyphs), BoundsPen(glyphs)
        glyphs[name].draw(path)
        glyphs[name].draw(bounds)
        return outline_svg(path.getCommands(), bounds.bounds) if bounds.bounds else None

    return draw


def outline_svg(path: str, bounds: tuple[float, float, float, float]) -> str:
    """Centre a glyph's outline (y upwards; bounds x0, y0, x1, y1) in a square with a margin."""
    x0, y0, x1, y1 = bounds
    side = max(x1 - x0, y1 - y0) * FONT_MARGIN
    left, top = (x0 + x1 - side) / 2, -(y0 + y1 + side) / 2
    box = f"{left:g} {top:g} {side:g} {side:g}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}"><path transform="scale(1,-1)" d="{path}"/></svg>'
