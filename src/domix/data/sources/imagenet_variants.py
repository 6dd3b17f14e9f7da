"""Test sets of ImageNet's classes, each in a folder or a tar file of class directories.

imagenet-v2   10,000 new images of all classes, matched in frequency (Recht et al. 2019)
              imagenetv2-matched-frequency-format-val/<label>/<file>, or imagenetv2-matched-frequency.tar.gz, which is
              published under that name without being packed; a directory's name is the label, from 0 to 999
imagenet-r    30,000 renditions of 200 classes (Hendrycks et al. 2021a): imagenet-r/<wnid>/<file>, or imagenet-r.tar
imagenet-a    7,500 images of 200 classes that ResNet-50 gets wrong (Hendrycks et al. 2021b):
              imagenet-a/<wnid>/<file>, or imagenet-a.tar

The class directories may also lie in the root itself. Labels are ImageNet's, also where a set has 200 classes only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from domix.data.archives.tars import TarReader
from domix.data.classes.imagenet import imagenet_classes
from domix.data.classes.imagenet_subsets import subset_wnids
from domix.data.sources.contract import Part
from domix.data.sources.image_folders import (
    Cell,
    Folder,
    Store,
    Tar,
    group_images,
    list_folder,
    list_images,
    make_keys,
    make_parts,
    tabulate,
)
from domix.data.sources.imagenet import class_cell
from domix.runtime.errors import DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """How a set lies on the disk."""

    title: str
    folder: str  # of the class directories, in the root or in the archive
    archives: tuple[str, ...]  # names of the tar file


LAYOUTS = {
    "imagenet-v2": Layout(
        "ImageNet-V2",
        "imagenetv2-matched-frequency-format-val",
        ("imagenetv2-matched-frequency.tar.gz", "imagenetv2-matched-frequency.tar"),
    ),
    "imagenet-r": Layout("ImageNet-R", "imagenet-r", ("imagenet-r.tar",)),
    "imagenet-a": Layout("ImageNet-A", "imagenet-a", ("imagenet-a.tar",)),
}


class ImageNetVariant:
    """A test set of ImageNet's classes; all of it is for testing. Order: label, file name."""

    def __init__(self, name: str) -> None:
        """Describe the set `name`, one of LAYOUTS."""
        self.name, self.layout = name, LAYOUTS[name]
        wnids = subset_wnids().get(name)
        numbered = {str(known.label): wnid for wnid, known in imagenet_classes().items()}
        self.wnids = {wnid: wnid for wnid in wnids} if wnids else numbered  # of directories, in label order

    def files(self, root: Path) -> list[str]:
        """Return the folder, the archive, or the class directories.

        Raises:
            DataError: none of them is there.
        """
        if (root / self.layout.folder).is_dir():
            return [self.layout.folder]
        if archive := next((name for name in self.layout.archives if (root / name).is_file()), None):
            return [archive]
        found = list_folder(root, root)[0] if root.is_dir() else []
        if any(name in self.wnids for name in found):
            return found
        raise DataError(f"{root} holds neither {self.layout.folder}/ nor {self.layout.archives[0]}", argument="root")

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the images into parts of `size`.

        Raises:
            DataError: as `files`; the archive is damaged; or a directory is no class of the set, or has no images.
        """
        store, cells = self._read(root)
        return make_parts(store, cells, size)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return the images; paths are <folder>/<directory>/<file> wherever they lie.

        Raises:
            DataError: as `parts`.
        """
        return tabulate(self._read(root)[1])

    def _read(self, root: Path) -> tuple[Store, list[Cell]]:
        found = self.files(root)
        if found[0] in self.layout.archives:
            path = root / found[0]
            with TarReader(path) as reader:
                return Tar(path), self._cells(path, group_images(reader))
        whole = found == [self.layout.folder]
        folder = root / self.layout.folder if whole else root
        names = list_folder(folder, folder)[0] if whole else found
        return Folder(folder), self._cells(folder, {name: list_images(folder / name, folder) for name in names})

    def _cells(self, where: Path, directories: Mapping[str, Sequence[str]]) -> list[Cell]:
        """Return the cells, by label."""
        by_class = {directory.rpartition("/")[2]: directory for directory in directories}
        self._check(where, by_class, directories)
        cells = []
        for name, wnid in self.wnids.items():
            if name in by_class:
                names = tuple(directories[by_class[name]])
                cell = class_cell(
                    wnid,
                    directory=by_class[name],
                    path=f"{self.layout.folder}/{name}",
                    domain=self.name,
                    split="test",
                    names=names,
                    keys=make_keys(name, names),
                )
                cells.append(cell)
        if len(cells) < len(self.wnids):
            log.warning("%s: %d of the %d classes of %s", where, len(cells), len(self.wnids), self.layout.title)
        return cells

    def _check(self, where: Path, by_class: Iterable[str], directories: Mapping[str, Sequence[str]]) -> None:
        """Refuse directories that are no class, a class in two of them, or without images."""
        title = self.layout.title
        if strange := sorted(set(by_class) - set(self.wnids)):
            raise DataError(
                f"{where} holds the directory {strange[0]!r}, which is none of the {len(self.wnids):,} classes of"
                f" {title}: remove it"
            )
        if len(set(by_class)) != len(directories):
            raise DataError(f"{where} holds a class in two directories: restore it")
        if empty := [directory for directory, names in directories.items() if not names]:
            raise DataError(f"{where} holds no images in {empty[0]}: complete {title}")
