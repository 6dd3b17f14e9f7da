"""ImageNet-Sketch (Wang et al. 2019): 50,889 black and white drawings of ImageNet's 1,000 classes.

The root holds ImageNet-Sketch.zip, with members sketch/<wnid>/<file>, or the folders themselves, with or without the
folder sketch/.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from domix.data.sources.contract import Part
from domix.data.sources.image_folders import (
    Cell,
    Folder,
    Store,
    Zip,
    list_folder,
    list_images,
    list_zip,
    make_keys,
    make_parts,
    tabulate,
)
from domix.data.sources.imagenet import check_wnids, class_cell, class_folders, is_wnid
from domix.runtime.errors import DataError

NAME = "imagenet-sketch"
ARCHIVE, FOLDER = "ImageNet-Sketch.zip", "sketch"


class ImageNetSketch:
    """ImageNet-Sketch; all of it is for training. Order: wnid, file name, as torchvision's ImageFolder has it."""

    def files(self, root: Path) -> list[str]:
        """Return the archive or the folder.

        Raises:
            DataError: neither is there.
        """
        if (root / FOLDER).is_dir():
            return [FOLDER]
        if (root / ARCHIVE).is_file():
            return [ARCHIVE]
        if root.is_dir() and (wnids := [name for name in list_folder(root, root)[0] if is_wnid(name)]):
            return wnids
        raise DataError(f"{root} holds neither {ARCHIVE} nor {FOLDER}/<wnid>/", argument="root")

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the drawings into parts of `size`.

        Raises:
            DataError: as `files`; or the archive is damaged.
        """
        store, cells = self._read(root)
        return make_parts(store, cells, size)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return the drawings; paths are sketch/<wnid>/<file> wherever they lie.

        Raises:
            DataError: as `parts`.
        """
        return tabulate(self._read(root)[1])

    def _read(self, root: Path) -> tuple[Store, list[Cell]]:
        found = self.files(root)
        if found == [ARCHIVE]:
            return Zip(root / ARCHIVE), list(_zip_cells(root / ARCHIVE))
        folder = root / FOLDER if found == [FOLDER] else root
        return Folder(folder), [_cell(wnid, wnid, list_images(folder / wnid, folder)) for wnid in class_folders(folder)]


def _zip_cells(path: Path) -> Iterator[Cell]:
    directories = list_zip(path)
    by_wnid = {directory.rpartition("/")[2]: directory for directory in directories}
    wnids = check_wnids(by_wnid, path)
    if len(by_wnid) != len(directories):
        raise DataError(f"{path} holds a class in two directories: restore it")
    for wnid in wnids:
        yield _cell(wnid, by_wnid[wnid], directories[by_wnid[wnid]])


def _cell(wnid: str, directory: str, names: Sequence[str]) -> Cell:
    return class_cell(
        wnid,
        directory=directory,
        path=f"{FOLDER}/{wnid}",
        domain=NAME,
        split="train",
        names=tuple(names),
        keys=make_keys(wnid, names),
    )
