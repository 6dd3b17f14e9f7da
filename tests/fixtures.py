"""A tiny image set in DomainNet's layout, drawn on the spot: archives, split lists, manifest."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from domix.runtime.seeds import numpy_generator

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
CLASSES = ("apple", "axe", "bed", "ice cream", "lion", "t-shirt")


def draw(domain: str, name: str, number: int, *, size: int = 24) -> Image.Image:
    """Draw one image: the class decides the shape, the domain the colours, the number how the shape lies."""
    shape = numpy_generator(0, name).uniform(0.15, 0.85, size=(5, 2))
    paper, ink = numpy_generator(0, domain).integers(0, 256, size=(2, 3))
    moved = shape + numpy_generator(0, domain, name, number).normal(0, 0.04, size=shape.shape)
    image = Image.new("RGB", (size, size), tuple(int(v) for v in paper))
    points = [(float(x), float(y)) for x, y in np.clip(moved, 0, 1) * size]
    ImageDraw.Draw(image).polygon(points, fill=tuple(int(v) for v in ink))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Encode an image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_domainnet_set(
    folder: Path,
    domains: Sequence[str] = DOMAINS,
    classes: Sequence[str] = CLASSES,
    per_cell: int = 2,
    *,
    size: int = 24,
    apart: bool = False,
) -> Path:
    """Draw a set into `folder`, with `per_cell` drawings of every class in every domain, and return the folder.

    Both split lists of a domain name every drawing, as in the bundled set, or, `apart`, each names every second one,
    as DomainNet's. Labels follow the order of `classes`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for domain in domains:
        members, lines = {}, []
        for label, name in enumerate(classes):
            for number in range(per_cell):
                path = f"{domain}/{name.replace(' ', '_')}/artist{number}.png"
                members[path] = encoded(draw(domain, name, number, size=size))
                lines.append(f"{path} {label}\n")
        write_zip(folder / f"{domain}.zip", members)
        for first, split in enumerate(("train", "test")):
            listed = lines[first::2] if apart else lines
            (folder / f"{domain}_{split}.txt").write_text("".join(listed), encoding="utf-8")
    write_manifest(folder)
    return folder


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    """Write an uncompressed zip archive."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def replace_members(path: Path, changes: dict[str, bytes | None]) -> None:
    """Rewrite an archive with some members changed, added, or (None) left out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {name: data for name, data in changes.items() if data is not None}
    write_zip(path, {name: data for name, data in members.items() if changes.get(name, data) is not None})


def write_manifest(folder: Path) -> None:
    """Write manifest.json for the files that lie in `folder` now."""
    paths = sorted(path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json")
    rows = [
        {"file": p.name, "bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()} for p in paths
    ]
    (folder / "manifest.json").write_text(json.dumps({"files": rows}), encoding="utf-8")
