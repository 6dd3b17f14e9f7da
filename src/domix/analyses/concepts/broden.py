"""Broden (Bau et al. 2017): images with dense labels of objects, parts, scenes, materials, textures and colours.

The folder is that of Network Dissection's download (`broden1_224`):

    index.csv          image, split, ih, iw, sh, sw, and a column a category: what the image shows of it, `;` between;
                       a number is a label of the whole image, all else a mask; empty: not annotated for the category
    label.csv          number, name, category (`object(120);part(3)`: in how many images of each), ...
    category.csv       name, ...
    c_<category>.csv   code, number, ...: the labels of a category
    images/            images and masks (PNG), whose pixel holds the label R + 256 G; 0 is none

A concept is a label; its category is the one that has it in most images. An image shows it if any label or any pixel of
any mask says so, whatever the column; a label of the whole image stands for all pixels of a mask.

Shapes: N images, C concepts, K categories, P concepts that an image shows, H x W pixels of its masks (sh, sw).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.store.images import BadImage, decode
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import DataError
from domix.runtime.files import digest_of, sha256_file
from domix.runtime.kept import Kept
from domix.runtime.tables import read_csv
from domix.signature.concepts import ConceptSet

INDEX, LABELS, CATEGORIES, IMAGES = "index.csv", "label.csv", "category.csv", "images"
SHOWN, ANNOTATED = "shown.npy", "annotated.npy"  # of what is kept
COUNTED = re.compile(r"(\w+)\((\d+)\)")
MEND = "unpack Broden's download anew"


@dataclass(frozen=True)
class Broden:
    """Images, by their paths, and the concepts that they show, of which some may be shown by none.

    Attributes:
        images: their paths [N].
        split: of each, train or val.
        concepts: which of them show what.
        numbers: of the concepts [C], as pixels have them.
        fields: what the index says of each image, its masks and labels by category [N].
        sizes: of the masks of each image, (sh, sw) [N].
    """

    images: tuple[Path, ...]
    split: tuple[str, ...]
    concepts: ConceptSet
    folder: Path
    numbers: tuple[int, ...]
    fields: tuple[tuple[str, ...], ...]
    sizes: tuple[tuple[int, int], ...]

    @cached_property
    def places(self) -> dict[int, int]:
        """Which concept has which number."""
        return {number: place for place, number in enumerate(self.numbers)}

    def masks(self, image: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the concepts that an image shows, by number of the concept [P], rising, and where [P, H, W].

        Raises:
            DataError: a mask is missing or damaged, is of another size than the index says, or has an unknown label.
        """
        height, width = self.sizes[image]
        found: dict[int, NDArray[np.bool_]] = {}
        for part in _parts(";".join(self.fields[image])):
            whole = part.isdecimal()
            pixels = np.full((height, width), int(part)) if whole else mask_pixels(_inside(self.folder, part))
            if pixels.shape != (height, width):
                raise DataError(
                    f"the mask {part} is {pixels.shape[0]} x {pixels.shape[1]} pixels, but {INDEX} says {height} x"
                    f" {width}: {MEND}"
                )
            for number in np.unique(pixels).tolist():
                if number and number not in self.places:
                    raise DataError(f"the mask {part} has the label {number}, which {LABELS} lacks: {MEND}")
                if number:
                    place, here = self.places[number], pixels == number
                    found[place] = found[place] | here if place in found else here
        order = sorted(found)
        shown = np.stack([found[place] for place in order]) if order else np.zeros((0, height, width), np.bool_)
        return np.array(order, dtype=np.int64), shown


def read_broden(folder: Path, kept: Kept | None = None) -> Broden:
    """Read a folder of Broden's layout.

    Args:
        folder: `broden1_224`.
        kept: where what the images show is kept, by the tables' bytes and the masks' names, sizes and times: all masks
            are read but once; None: it is kept nowhere.

    Raises:
        DataError: a file, an image or a mask is missing or damaged, lies outside the folder, or a label is unknown.
    """
    tables = [_read(folder / name, *columns) for name, columns in _NEEDED.items()]
    index, labels, categories = tables[0], tables[1], list(tables[2]["name"])
    if missing := [name for name in categories if name not in index]:
        raise DataError(f"{folder / INDEX} has no column {missing[0]}, which {CATEGORIES} names: {MEND}")
    codes = {name: _numbers_of(folder / f"c_{name}.csv") for name in categories}
    numbers = [_whole(number, folder / LABELS) for number in labels["number"]]
    labels = labels[[number > 0 for number in numbers]]  # 0 stands for no label
    home = [_main_category(text, categories, folder / LABELS) for text in labels["category"]]
    place = {number: row for row, number in enumerate(filter(None, numbers))}

    def make(out: Path) -> None:
        for name, array in zip((SHOWN, ANNOTATED), _shown(folder, index, codes, place, home), strict=True):
            np.save(out / name, array)

    if kept is None:
        shown, annotated = _shown(folder, index, codes, place, home)
    else:
        where = kept.open(_key(folder, index, categories), make, what="labels of Broden's images")
        shown, annotated = np.load(where / SHOWN), np.load(where / ANNOTATED)
    return Broden(
        images=tuple(_inside(folder, name) for name in index["image"]),
        split=tuple(index["split"]),
        concepts=ConceptSet(tuple(labels["name"]), np.array(home), tuple(categories), shown, annotated),
        folder=folder,
        numbers=tuple(place),
        fields=tuple(index[categories].itertuples(index=False, name=None)),
        sizes=tuple(
            (_whole(high, folder / INDEX), _whole(wide, folder / INDEX))
            for high, wide in zip(index["sh"], index["sw"], strict=True)
        ),
    )


def _shown(
    folder: Path, index: pd.DataFrame, codes: dict[str, set[int]], place: dict[int, int], home: list[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which images show which concept [N, C], and for which categories they were annotated [N, K]."""
    shown = np.zeros((len(index), len(place)), dtype=np.bool_)
    annotated = np.zeros((len(index), len(codes)), dtype=np.bool_)
    for column, name in enumerate(codes):
        for row, text in enumerate(index[name]):
            annotated[row, column] |= bool(text)
            for number in _labels_in(folder, text):
                if number not in place or number not in codes[name]:
                    lacking = LABELS if number not in place else f"c_{name}.csv"
                    raise DataError(
                        f"{index['image'][row]} of {folder / INDEX} shows the {name} {number}, which {lacking} lacks:"
                        f" {MEND}"
                    )
                shown[row, place[number]] = True
                annotated[row, home[place[number]]] = True
    return shown, annotated


def _key(folder: Path, index: pd.DataFrame, categories: list[str]) -> dict[str, Any]:
    """Return what the labels of images hang on; a mask counts by its name, size and time."""
    tables = [*_NEEDED, *(f"c_{name}.csv" for name in categories)]
    named = {part for name in categories for text in index[name] for part in _parts(text) if not part.isdecimal()}
    states = [(name, path.stat()) for name in sorted(named) for path in [_inside(folder, name)]]
    return {
        "what": "labels of Broden's images",
        "tables": {name: sha256_file(folder / name) for name in tables},
        "masks": digest_of(masks=[[name, state.st_size, state.st_mtime_ns] for name, state in states]),
        "code": code_digest(__name__),
    }


_NEEDED = {INDEX: ("image", "split", "sh", "sw"), LABELS: ("number", "name", "category"), CATEGORIES: ("name",)}


def mask_labels(path: Path) -> list[int]:
    """Return the labels of a mask's pixels, R + 256 G, rising and without 0.

    Raises:
        DataError: it is missing, or no picture that can be decoded.
    """
    return [number for number in np.unique(mask_pixels(path)).tolist() if number]


def mask_pixels(path: Path) -> NDArray[np.int64]:
    """Return the label of each pixel of a mask, R + 256 G; 0 is none [H, W].

    Raises:
        DataError: it is missing, or no picture that can be decoded.
    """
    try:
        pixels = np.asarray(decode(path.read_bytes())).astype(np.int64)
    except OSError as error:
        raise DataError(f"the mask {path} cannot be read ({error.strerror}): {MEND}") from error
    except BadImage as error:
        raise DataError(f"the mask {path} is no picture ({error.reason}): {MEND}") from error
    return pixels[..., 0] + 256 * pixels[..., 1]


def _labels_in(folder: Path, text: str) -> set[int]:
    """Return the labels that a field of the index names, by number or by mask."""
    found: set[int] = set()
    for part in _parts(text):
        found |= {int(part)} if part.isdecimal() else set(mask_labels(_inside(folder, part)))
    return found - {0}


def _parts(text: str) -> list[str]:
    """Return the labels and masks that a field of the index names."""
    return [part for part in (part.strip() for part in text.split(";")) if part]


def _inside(folder: Path, name: str) -> Path:
    """Return the path of an image or a mask, which no name may lead out of the folder.

    Raises:
        DataError: it lies outside, or is not there.
    """
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise DataError(f"{folder / INDEX} names {name!r}, which is no path inside {IMAGES}: {MEND}")
    path = folder / IMAGES / pure
    if not path.is_file():
        raise DataError(f"{path} is missing, which {INDEX} names: {MEND}")
    return path


def _read(path: Path, *columns: str) -> pd.DataFrame:
    frame = read_csv(path, mend=MEND)
    if missing := [name for name in columns if name not in frame]:
        raise DataError(f"{path} has no column {missing[0]}: {MEND}")
    if frame.empty:
        raise DataError(f"{path} has no rows: {MEND}")
    return frame


def _numbers_of(path: Path) -> set[int]:
    return {_whole(number, path) for number in _read(path, "code", "number")["number"]}


def _whole(text: str, path: Path) -> int:
    if not text.isdecimal():
        raise DataError(f"{path} has the number {text!r}, which is none: {MEND}")
    return int(text)


def _main_category(text: str, categories: list[str], path: Path) -> int:
    """Return the place of the category that has a label in most images, of equal ones the first named."""
    counted = [(name, int(count)) for name, count in COUNTED.findall(text) if name in categories]
    if not counted:
        raise DataError(f"{path} has a label of the category {text!r}, which {CATEGORIES} lacks: {MEND}")
    return categories.index(max(counted, key=lambda each: each[1])[0])
