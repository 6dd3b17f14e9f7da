"""ImageNet-1k (Russakovsky et al. 2015): 1,281,167 training and 50,000 validation images of 1,000 classes.

The root holds the training images, the validation images, or both:

train/<wnid>/<file>            or   ILSVRC2012_img_train.tar
val/<wnid>/<file>              or   val/<file> or ILSVRC2012_img_val.tar, with one of LABELS

Kaggle's folders (ILSVRC/Data/CLS-LOC/) are found too. The devkit's own list of labels is not read: it numbers the
classes in an order of its own, which only a MATLAB file gives.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from domix.data.archives.tars import Place, TarReader
from domix.data.classes.imagenet import imagenet_classes
from domix.data.sources.contract import Part, RawSample
from domix.data.sources.image_folders import (
    Cell,
    ClassTars,
    Folder,
    ImagePart,
    Store,
    Tar,
    is_image,
    list_folder,
    list_images,
    make_keys,
    make_parts,
    tabulate,
)
from domix.runtime.errors import DataError
from domix.runtime.files import read_lines

NAME = "imagenet"
BASES = (".", "ILSVRC/Data/CLS-LOC")
TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
LARGEST_CLASS = 8 << 30  # bytes of one class's tar file
KAGGLE, SYNSETS, CAFFE = "LOC_val_solution.csv", "imagenet_2012_validation_synset_labels.txt", "val.txt"


class ImageNet:
    """ImageNet-1k; the training split is train, the validation split test."""

    def files(self, root: Path) -> list[str]:
        """Return the folders or archives of the splits that are there, and the labels if they are needed.

        Raises:
            DataError: there are neither training nor validation images, or labels are missing.
        """
        found = [path for path in (find_train(root), _find_val(root)) if path is not None]
        if not found:
            raise DataError(
                f"{root} holds neither train/ nor val/, {TRAIN_TAR} or {VAL_TAR}: lay ImageNet there, or name another"
                " folder",
                argument="root",
            )
        val = _find_val(root)
        if val is not None and not _has_classes(val):
            found.append(_find_labels(root, val))
        return [str(path.relative_to(root)) for path in found]

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the images by split, wnid and file name; a class in a tar file is a part, whatever its size.

        Raises:
            DataError: as `files`; or archives or labels are damaged.
        """
        return _parts(root, size)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return the files of all classes; of a tar file, the headers are read.

        Raises:
            DataError: as `parts`.
        """
        return tabulate(cell for part in _parts(root, 1 << 16) for cell in part.cells)


def _parts(root: Path, size: int) -> list[ImagePart | ClassTarPart]:
    ImageNet().files(root)
    return [*_train_parts(root, size), *_val_parts(root, size)]


@dataclass(frozen=True)
class ClassTarPart:
    """The training images of one class in the tar file of tar files."""

    path: Path
    wnid: str
    place: Place

    @property
    def cells(self) -> tuple[Cell]:
        """Return the images, of which the headers tell."""
        with TarReader(self.path, self.place, name=f"{self.wnid}.tar") as reader:
            return (make_cell(self.wnid, "train", sorted(name for name in reader if is_image(name))),)

    def samples(self) -> Iterator[RawSample]:
        """Yield the samples by file name.

        Raises:
            DataError: the archive is missing or damaged.
        """
        yield from ImagePart(ClassTars(self.path, ((self.wnid, self.place),)), self.cells).samples()


def make_cell(wnid: str, split: str, names: Sequence[str], *, directory: str | None = None) -> Cell:
    """Return a cell of ImageNet's images of one class, which the store has in `directory`, else in its wnid's."""
    return class_cell(
        wnid,
        directory=wnid if directory is None else directory,
        path=f"{'train' if split == 'train' else 'val'}/{wnid}",
        domain=NAME,
        split=split,
        names=tuple(names),
        keys=make_keys(f"{split}/{wnid}", names),
    )


def class_cell(wnid: str, **named: Any) -> Cell:
    """Return a cell of images of one ImageNet class; `named` are the fields but for its name and label."""
    known = imagenet_classes()[wnid]
    return Cell(class_name=known.text, label=known.label, **named)


def class_folders(folder: Path) -> list[str]:
    """Return the names of a folder's class directories, sorted.

    Raises:
        DataError: there are none, or one of them is no class of ImageNet-1k.
    """
    folders, _ = list_folder(folder, folder)
    return check_wnids(folders, folder)


def check_wnids(names: Iterable[str], where: Path) -> list[str]:
    """Return the wnids among names, sorted.

    Raises:
        DataError: there are none, or one is no class of ImageNet-1k.
    """
    wnids = sorted(name for name in names if is_wnid(name))
    if strange := [wnid for wnid in wnids if wnid not in imagenet_classes()]:
        raise DataError(f"{where} holds {strange[0]}, which is none of the 1,000 classes of ImageNet-1k: remove it")
    if not wnids:
        raise DataError(f"{where} holds no class of ImageNet, such as n01440764: name another folder", argument="root")
    return wnids


def is_wnid(name: str) -> bool:
    """Say whether a word is made like a wnid: `n` and eight digits."""
    return len(name) == 9 and name[0] == "n" and name[1:].isascii() and name[1:].isdigit()


# Training -----------------------------------------------------------------------------------------


def find_train(root: Path) -> Path | None:
    """Return the folder or tar file of the training images; None if there is none."""
    for base in BASES:
        if (root / base / "train").is_dir():
            return root / base / "train"
    return root / TRAIN_TAR if (root / TRAIN_TAR).is_file() else None


def class_places(path: Path) -> dict[str, Place]:
    """Return where the classes' tar files lie in the training images' one, by wnid, sorted.

    Raises:
        DataError: the file is damaged, or holds something else.
    """
    with TarReader(path, largest=LARGEST_CLASS) as reader:
        names = {name.removesuffix(".tar"): name for name in reader if name.endswith(".tar")}
        return {wnid: reader.place(names[wnid]) for wnid in check_wnids(names, path)}


def _train_parts(root: Path, size: int) -> Sequence[ImagePart | ClassTarPart]:
    path = find_train(root)
    if path is None:
        return []
    if path.is_file():
        return [ClassTarPart(path, wnid, place) for wnid, place in class_places(path).items()]
    return make_parts(Folder(path), _folder_cells(path, "train"), size)


def _folder_cells(folder: Path, split: str) -> Iterator[Cell]:
    for wnid in class_folders(folder):
        yield make_cell(wnid, split, list_images(folder / wnid, folder))


# Validation ---------------------------------------------------------------------------------------


def _find_val(root: Path) -> Path | None:
    for base in BASES:
        if (root / base / "val").is_dir():
            return root / base / "val"
    return root / VAL_TAR if (root / VAL_TAR).is_file() else None


def _has_classes(val: Path) -> bool:
    return val.is_dir() and any(is_wnid(name) for name in list_folder(val, val)[0])


def _val_parts(root: Path, size: int) -> Sequence[ImagePart]:
    path = _find_val(root)
    if path is None:
        return []
    if _has_classes(path):
        return make_parts(Folder(path), _folder_cells(path, "test"), size)
    store: Store = Folder(path) if path.is_dir() else Tar(path)
    if path.is_dir():
        names = list_images(path, path)
    else:
        with TarReader(path) as reader:
            names = [name for name in reader if is_image(name)]
    return make_parts(store, _labelled_cells(names, _find_labels(root, path), path), size)


def _labelled_cells(names: Sequence[str], labels: Path, where: Path) -> Iterator[Cell]:
    """Yield the cells of images that lie all in one place, by wnid."""
    wnids = LABELS[labels.name](labels)
    if strange := sorted(wnid for wnid in set(wnids.values()) if wnid not in imagenet_classes()):
        raise DataError(f"{labels} names {strange[0]}, which is none of the 1,000 classes of ImageNet-1k: restore it")
    for here, there, one, other in ((names, wnids, where, labels), (wnids, set(names), labels, where)):
        if absent := sorted(name for name in here if name not in there):
            raise DataError(f"{len(absent):,} images of {one} are not in {other}, for one {absent[0]}: restore both")
    classes: dict[str, list[str]] = {}
    for name in sorted(names):
        classes.setdefault(wnids[name], []).append(name)
    for wnid in sorted(classes):
        yield make_cell(wnid, "test", classes[wnid], directory="")


def _find_labels(root: Path, val: Path) -> Path:
    """Return the list of the validation labels.

    Raises:
        DataError: there is none that can be read.
    """
    for folder in (root, val, val.parent):
        for name in LABELS:
            if (folder / name).is_file():
                return folder / name
    raise DataError(
        f"the labels of {val} are missing: lay one of {', '.join(LABELS)} into {root} (the devkit's ground truth alone"
        " does not do: it numbers the classes in another order), or sort the images into val/<wnid>/"
    )


def _read_kaggle(path: Path) -> dict[str, str]:
    """Read rows `ImageId,PredictionString`: the image's stem; wnid and box, for each object."""
    rows = list(csv.reader(read_lines(path)))
    wnids = {f"{row[0]}.JPEG": row[1].split(" ")[0] for row in rows[1:] if len(row) == 2}
    if rows[:1] != [["ImageId", "PredictionString"]] or len(wnids) != len(rows) - 1:
        raise DataError(f"{path} does not hold rows `ImageId,PredictionString`, each image once: restore it")
    return wnids


def _read_synsets(path: Path) -> dict[str, str]:
    """Read the wnids, one a line, in the order of the images' numbers."""
    return {f"ILSVRC2012_val_{number:08d}.JPEG": wnid for number, wnid in enumerate(read_lines(path), start=1)}


def _read_caffe(path: Path) -> dict[str, str]:
    """Read lines `<file> <label>`, where labels go by sorted wnids."""
    wnids, labels = list(imagenet_classes()), {}
    for number, row in enumerate(read_lines(path), start=1):
        name, _, label = row.rpartition(" ")
        if not name or not (label.isascii() and label.isdigit()) or int(label) >= len(wnids) or name in labels:
            raise DataError(f"{path}, line {number} is not `<file> <label from 0 to 999>`, each file once: restore it")
        labels[name] = wnids[int(label)]
    return labels


LABELS: dict[str, Callable[[Path], dict[str, str]]] = {KAGGLE: _read_kaggle, SYNSETS: _read_synsets, CAFFE: _read_caffe}
