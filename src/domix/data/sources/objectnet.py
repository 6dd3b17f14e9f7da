"""ObjectNet (Barbu et al. 2019): photographs of household objects in odd places, from odd sides; for testing only.

The root holds these, or a folder objectnet-1.0 that does, as the published archive unpacks (it is encrypted):

images/<directory>/<file>                    313 classes, a frame of one red pixel about every image
mappings/folder_to_objectnet_label.json      {directory: class}
mappings/objectnet_to_imagenet_1k.json       {class: "text; text"}: the classes that ImageNet has, too, 113 of them
mappings/imagenet_to_label_2012_v2           a text a line: ImageNet's classes in an order of their own
mappings/pytorch_to_imagenet_2012_id.json    {label: number of its line, from 0}

The samples are the images of those 113 classes, less a border of two pixels, as the frame's colour runs into its
neighbours where images were compressed. Labels are ObjectNet's own, from 0, by directory; `answers` says which of
ImageNet's are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from domix.data.sources.contract import Part
from domix.data.sources.image_folders import Cell, Folder, list_images, make_keys, make_parts, tabulate
from domix.runtime.errors import DataError
from domix.runtime.files import read_json, read_lines

NAME = "objectnet"
BASES = (".", "objectnet-1.0")
IMAGES, MAPPINGS = "images", "mappings"
DIRECTORIES, OVERLAP = "folder_to_objectnet_label.json", "objectnet_to_imagenet_1k.json"
TEXTS, LINES = "imagenet_to_label_2012_v2", "pytorch_to_imagenet_2012_id.json"
LABELS = 1000  # of ImageNet-1k
BORDER = 2  # pixels
COMPLETE = f"complete ObjectNet's {MAPPINGS}, or get it anew"


class ObjectNetClass(NamedTuple):
    """A class that ImageNet has, too: its directory, its name, and ImageNet's labels for it, rising."""

    directory: str
    name: str
    answers: tuple[int, ...]


class ObjectNet:
    """ObjectNet; all of it is for testing. Order: directory, file name."""

    def files(self, root: Path) -> list[str]:
        """Return the folders of images and of mappings.

        Raises:
            DataError: one of them is not there.
        """
        for base in BASES:
            folders = [root / base / name for name in (IMAGES, MAPPINGS)]
            if all(folder.is_dir() for folder in folders):
                return [str(folder.relative_to(root)) for folder in folders]
        raise DataError(
            f"{root} does not hold {IMAGES}/ and {MAPPINGS}/: unpack ObjectNet there, or name another folder",
            argument="root",
        )

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the images into parts of `size`.

        Raises:
            DataError: as `files`; a mapping is missing or damaged, or a class has no images.
        """
        return make_parts(Folder(root / self.files(root)[0]), self._cells(root), size)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return the images; paths are images/<directory>/<file> wherever they lie.

        Raises:
            DataError: as `parts`.
        """
        return tabulate(self._cells(root))

    def answers(self, root: Path) -> list[list[int]]:
        """Return for each class, in label order, the labels of ImageNet that are right.

        Raises:
            DataError: as `files`; or a mapping is missing or damaged.
        """
        return [list(known.answers) for known in read_classes(root / self.files(root)[1])]

    def _cells(self, root: Path) -> Iterator[Cell]:
        images, mappings = (root / name for name in self.files(root))
        for label, known in enumerate(read_classes(mappings)):
            folder = images / known.directory
            names = tuple(list_images(folder, images)) if folder.is_dir() else ()
            if not names:
                raise DataError(f"{folder} holds no images of the class {known.name!r}: complete ObjectNet")
            yield Cell(
                directory=known.directory,
                path=f"{IMAGES}/{known.directory}",
                domain=NAME,
                class_name=known.name,
                label=label,
                split="test",
                names=names,
                keys=make_keys(known.directory, names),
                border=BORDER,
            )


def read_classes(mappings: Path) -> list[ObjectNetClass]:
    """Read the classes that ImageNet has, too, from the mappings, by directory.

    Raises:
        DataError: a mapping is missing or damaged, or names a class that another does not know.
    """
    directories = {name: directory for directory, name in _read_map(mappings / DIRECTORIES, str).items()}
    labels = _read_texts(mappings)
    classes = []
    for name, texts in _read_map(mappings / OVERLAP, str).items():
        if name not in directories:
            raise DataError(f"{mappings / OVERLAP} names {name!r}, which {DIRECTORIES} does not: restore both")
        answers = set()
        for text in texts.split("; "):
            if len(labels.get(text, [])) != 1:
                problem = "two classes of" if text in labels else "no class of"
                raise DataError(f"{mappings / OVERLAP} names {text!r}, {problem} ImageNet in {TEXTS}: restore both")
            answers.add(labels[text][0])
        classes.append(ObjectNetClass(directories[name], name, tuple(sorted(answers))))
    return sorted(classes)


def _read_texts(mappings: Path) -> dict[str, list[int]]:
    """Return ImageNet's labels by the text of their class; two classes are called `crane`."""
    lines = read_lines(mappings / TEXTS, mend=COMPLETE)
    numbers = _read_map(mappings / LINES, int)
    if sorted(numbers.values()) != list(range(LABELS)) or set(numbers) != set(map(str, range(LABELS))):
        raise DataError(f"{mappings / LINES} does not number the labels 0 to 999, each once: restore it")
    if len(lines) != LABELS:
        raise DataError(f"{mappings / TEXTS} holds {len(lines):,} lines, not {LABELS:,}: restore it")
    labels: dict[str, list[int]] = {}
    for label in range(LABELS):
        labels.setdefault(lines[numbers[str(label)]].strip(), []).append(label)
    return labels


def _read_map(path: Path, kind: type) -> dict[str, Any]:
    """Read a JSON object whose values are all of one kind."""
    tree = read_json(path, mend=COMPLETE)
    if not isinstance(tree, dict) or not tree or not all(type(value) is kind for value in tree.values()):
        raise DataError(f"{path} is not a JSON object of {'texts' if kind is str else 'numbers'}: restore it")
    return tree
