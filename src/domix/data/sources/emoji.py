"""The bundled image sets `emoji`, drawings of 850 objects in six styles, and `emoji-ood`, of 48 emoji that show none.

There is one drawing an artist, object and style, too few to divide. A test image is a drawing as drawn; the training
images are seeded poses of the drawings. What a mixture withholds is held out in every pose. Of emoji that show no
object there are test images alone. Who drew what: bundled/emoji/NOTICE.md, bundled/emoji-ood/NOTICE.md.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from domix.data.archives.archive import MANIFEST, read_manifest
from domix.data.classes.names import class_text
from domix.data.classes.ood_groups import NEARNESS
from domix.data.sources.contract import SPLITS, Part
from domix.data.sources.layout import DomainNetLayout, Entry, divide, tabulate
from domix.runtime.errors import DataError
from domix.runtime.files import read_lines

CLASSES = "classes.csv"


class Emoji:
    """The bundled set, or any other of few drawings in DomainNet's layout with a manifest."""

    def files(self, root: Path) -> list[str]:
        """Return what the manifest names, and the manifest.

        Raises:
            DataError: the manifest is missing or malformed.
        """
        return [MANIFEST, *(entry.file for entry in read_manifest(root))]

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide `poses` poses of every drawing for training, and every drawing as it is for testing.

        Within a training cell all first poses come first, in list order, then all second ones: a prefix of a cell
        shows as many artists as it can.

        Raises:
            DataError: lists and archives do not fit together.
        """
        return divide(root, list(_entries(root, poses)), size)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return every pose of every drawing, in the order of `parts`.

        Raises:
            DataError: as `parts`.
        """
        return tabulate(list(_entries(root, poses)))


class EmojiOod(Emoji):
    """The bundled set of emoji that show no object, each near to those that do or far from them."""

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the drawings as they are, for testing.

        Raises:
            DataError: as `Emoji.parts`.
        """
        return super().parts(root, size=size, poses=0)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return every drawing, in the order of `parts`.

        Raises:
            DataError: as `parts`.
        """
        return super().listing(root, poses=0)

    def groups(self, root: Path) -> dict[str, str]:
        """Return the group of each class: the columns `directory` and `group` of classes.csv.

        Raises:
            DataError: the table is missing or damaged.
        """
        rows = list(csv.DictReader(read_lines(root / CLASSES)))
        if not rows or any(not row.get("directory") or row.get("group") not in NEARNESS for row in rows):
            raise DataError(
                f"{root / CLASSES} does not give every class a directory and a group, near or far: restore it"
            )
        return {class_text(str(row["directory"])): str(row["group"]) for row in rows}


def _entries(root: Path, poses: int) -> Iterator[Entry]:
    layout = DomainNetLayout(root)
    for domain, split in itertools.product(layout.domains, SPLITS):
        numbers = range(1, poses + 1) if split == "train" else (0,)
        for _, cell in itertools.groupby(layout.entries(domain, split), key=lambda entry: entry.label):
            for number, entry in itertools.product(numbers, list(cell)):
                yield entry._replace(key=f"{entry.key}-pose{number}", pose=number) if number else entry
