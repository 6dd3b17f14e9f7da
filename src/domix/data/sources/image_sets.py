"""Sets of images that are for testing alone, in one folder: `<class>/<file>`, or `<file>` where there are no classes.

inaturalist, sun, places   the subsets of Huang and Li (2021), without what ImageNet has
textures                   the Describable Textures Dataset (Cimpoi et al. 2014): its first test split
ninco                      NINCO (Bitterwolf et al. 2023): the classes, not the unit tests
imagenet-o                 ImageNet-O (Hendrycks et al. 2021)
openimage-o                OpenImage-O (Wang et al. 2022)
ssb-hard                   SSB-hard (Vaze et al. 2022), of ImageNet-21k
image-folder               any such folder

Where a list lies in the root, the images that it names are the set. A line is a path, perhaps with a number behind it,
as in OpenOOD's lists; directories that a path begins with and the folder lacks do not count.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from domix.data.archives.names import nfc
from domix.data.classes.names import class_text
from domix.data.sources.contract import NO_LABEL, Part
from domix.data.sources.image_folders import (
    Cell,
    Folder,
    group_images,
    is_image,
    list_folder,
    list_images,
    make_keys,
    make_parts,
    same_name,
    tabulate,
)
from domix.data.sources.layout import Spelled
from domix.runtime.errors import DataError
from domix.runtime.files import read_lines

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Layout:
    """How a set lies on the disk, and how many classes and images are in it, if that is certain."""

    folders: tuple[str, ...] = ()  # of the images, looked for in turn; else the root is it
    lists: tuple[str, ...] = ()  # of images that are the set, looked for in turn
    classes: int | None = None
    images: int | None = None


LAYOUTS = {
    "inaturalist": Layout(
        ("iNaturalist/images", "inaturalist/images", "images", "iNaturalist"), ("test_inaturalist.txt",), 110, 10_000
    ),
    "sun": Layout(("SUN/images", "sun/images", "images", "SUN"), ("test_sun.txt",), 50, 10_000),
    "places": Layout(("Places/images", "places/images", "images", "Places"), ("test_places.txt",), 50, 10_000),
    "textures": Layout(
        ("dtd_test", "dtd/images", "texture", "images"),
        ("test_textures.txt", "dtd/labels/test1.txt", "labels/test1.txt"),
        classes=47,
    ),
    "ninco": Layout(("NINCO/NINCO_OOD_classes", "NINCO_OOD_classes", "ninco"), ("test_ninco.txt",), 64, 5_879),
    "imagenet-o": Layout(("imagenet-o",), (), 200, 2_000),
    "openimage-o": Layout(("openimage_o/images", "openimage_o", "images"), ("openimage_o.txt", "test_openimage_o.txt")),
    "ssb-hard": Layout(("ssb_hard",), ("ssb_hard.txt", "test_ssb_hard.txt")),
    "image-folder": Layout(),
}


class ImageSet:
    """A set of images; all of it is for testing. Order: class, file name."""

    def __init__(self, name: str) -> None:
        """Describe the set `name`, one of LAYOUTS."""
        self.name, self.layout = name, LAYOUTS[name]

    def files(self, root: Path) -> list[str]:
        """Return the folder of the images, and the list.

        Raises:
            DataError: there is no folder.
        """
        if not root.is_dir():
            raise DataError(f"{root} is no folder", argument="root")
        folder = next((name for name in self.layout.folders if (root / name).is_dir()), ".")
        return [folder, *(name for name in self.layout.lists if (root / name).is_file())][:2]

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the images into parts of `size`.

        Raises:
            DataError: as `files`; there are no images, or some deeper than in classes, or beside these; or the list
                names one that is missing.
        """
        return make_parts(Folder(root / self.files(root)[0]), self._cells(root), size)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return the images, by their paths in the folder.

        Raises:
            DataError: as `parts`.
        """
        return tabulate(self._cells(root))

    def _cells(self, root: Path) -> list[Cell]:
        folder, *lists = self.files(root)
        images = _list_classes(root / folder)
        if lists:
            images = _listed(root / lists[0], root / folder, images)
        elif self.name != "image-folder":
            self._count(root / folder, images)
        texts = {directory: class_text(directory) for directory in images}
        labels = {text: label for label, text in enumerate(sorted(set(texts.values())))}
        if len({same_name(text) for text in labels}) < len(texts):
            raise DataError(f"{root / folder} holds classes whose names read alike: rename or join them")
        return [
            Cell(
                directory=directory,
                path=directory,
                domain=self.name,
                class_name=texts[directory] or None,
                label=labels[texts[directory]] if directory else NO_LABEL,
                split="test",
                names=tuple(images[directory]),
                keys=make_keys(nfc(directory), images[directory]) if directory else _flat_keys(images[directory]),
            )
            for directory in sorted(images, key=lambda directory: labels[texts[directory]])
        ]

    def _count(self, folder: Path, images: Mapping[str, Sequence[str]]) -> None:
        """Mention other numbers of classes or images than the set has."""
        found = {"classes": len(images), "images": sum(map(len, images.values()))}
        expected = {"classes": None if "" in images else self.layout.classes, "images": self.layout.images}
        for what, count in expected.items():
            if count not in (None, found[what]):
                log.warning("%s holds %d %s, but %s has %d", folder, found[what], what, self.name, count)


def _list_classes(folder: Path) -> dict[str, list[str]]:
    """Return the images of each class directory; those of the folder itself by an empty name."""
    directories, files = list_folder(folder, folder)
    classes = {name: list_images(folder / name, folder) for name in directories}
    classes = {name: names for name, names in classes.items() if names}
    flat = [name for name in files if is_image(name)]
    if flat and classes:
        raise DataError(
            f"{folder} holds images beside folders of images, for one {flat[0]} and {next(iter(classes))}/: sort them"
            " into the folders of their classes"
        )
    if not flat and not classes:
        raise DataError(
            f"{folder} holds no images, neither <class>/<file> nor <file>: name another folder", argument="root"
        )
    return {"": list_images(folder, folder)} if flat else classes


def _listed(path: Path, folder: Path, images: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the images that a list names, by directory."""
    spelled = Spelled(f"{directory}/{name}".lstrip("/") for directory, names in images.items() for name in names)
    found: set[str] = set()
    for number, line in enumerate(read_lines(path), start=1):
        name, _, label = line.rpartition(" ")
        words = (name if name and label.lstrip("-").isdigit() else line).strip().split("/")
        if words == [""]:
            continue
        ends = ("/".join(words[start:]) for start in range(len(words)))
        image = next((there for end in ends if (there := spelled.find(end))), None)
        where = f"{path}, line {number}"
        if image is None:
            wanted = "/".join(words)
            raise DataError(f"{where} names {wanted}, which {folder} does not hold: complete it, or correct the list")
        if image in found:
            raise DataError(f"{where} names {image} a second time: correct the list")
        found.add(image)
    if not found:
        raise DataError(f"{path} names no image: get it anew, or remove it")
    return group_images(found)


def _flat_keys(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(key.removeprefix("images/") for key in make_keys("images", names))
