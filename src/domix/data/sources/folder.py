"""Any tree `<domain>/<class>/<file>`, with or without split lists.

<domain>/<class>/<file>                     images; a class is read as its directory's name, with `_` as a blank
<domain>_train.txt, <domain>_test.txt       lines `<domain>/<class>/<file> <label>`, as DomainNet's

If there are lists, they decide which images there are, in which order, in which split, and with which labels; then
every domain has both. Without lists, labels go by the sorted class names of all domains, and an image is for testing
if the SHA-256 of its path `<domain>/<class>/<file>`, read as a number from 0 to 1, is below TEST_SHARE: adding files
moves no other from one split to the other.
"""

from __future__ import annotations

import itertools
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from domix.data.classes.names import class_text
from domix.data.sources.contract import SPLITS, Part
from domix.data.sources.image_folders import (
    Cell,
    Folder,
    hash_share,
    list_folder,
    list_images,
    make_keys,
    make_parts,
    same_name,
    tabulate,
)
from domix.data.sources.layout import Line, read_list
from domix.runtime.errors import DataError

TEST_SHARE = 0.3

log = logging.getLogger(__name__)


class Tree:
    """A tree of images: samples by domain, split, then as the lists say, or by class and file name."""

    def files(self, root: Path) -> list[str]:
        """Return the domains' folders, and the lists.

        Raises:
            DataError: there is no folder of a domain.
        """
        return [*_domains(root), *(f"{domain}_{split}.txt" for domain in _listed(root) for split in SPLITS)]

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide the images into parts of `size`.

        Raises:
            DataError: as `files`; a link leads out of the root; or lists and folders do not fit together.
        """
        return make_parts(Folder(root), _cells(root), size)

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame:
        """Return the images in order.

        Raises:
            DataError: as `parts`.
        """
        return tabulate(_cells(root))


def _domains(root: Path) -> list[str]:
    """Return the folders that hold folders, sorted."""
    domains = [name for name in list_folder(root, root)[0] if list_folder(root / name, root)[0]]
    if not domains:
        raise DataError(f"{root} holds no images <domain>/<class>/<file>: name another folder", argument="root")
    _check_names(domains, root)
    return domains


def _listed(root: Path) -> list[str]:
    """Return the domains that have a list, sorted."""
    names = list_folder(root, root)[1]
    return sorted({name.removesuffix(f"_{s}.txt") for s in SPLITS for name in names if name.endswith(f"_{s}.txt")})


def _check_names(names: Iterable[str], where: Path) -> None:
    """Refuse names that differ in nothing that keys or a file system keep apart."""
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(same_name(name), name)) != name:
            raise DataError(f"{where} holds {other} and {name}, which read alike: rename or join them")


def _cells(root: Path) -> Iterator[Cell]:
    """Yield the cells in order."""
    images = _images(root)
    keys = {d: dict(zip(names, make_keys(d, names), strict=True)) for d, names in images.items()}
    listed = _listed(root)
    for directory, label, split, names in _from_lists(root, listed, images) if listed else _from_hashes(images):
        yield Cell(
            directory=directory,
            path=directory,
            domain=_domain(directory),
            class_name=_class(directory),
            label=label,
            split=split,
            names=tuple(names),
            keys=tuple(keys[directory][name] for name in names),
        )


def _images(root: Path) -> dict[str, list[str]]:
    """Return the images of each directory `<domain>/<class>`; without directories that hold none."""
    images = {}
    for domain in _domains(root):
        directories, files = list_folder(root / domain, root)
        if files:
            log.warning("left out %d files of %s that lie in no class, for one %s", len(files), root / domain, files[0])
        _check_names(map(class_text, directories), root / domain)
        if twice := [text for text, count in Counter(map(class_text, directories)).items() if count > 1]:
            raise DataError(f"{root / domain} holds two directories that are read {twice[0]!r}: join them")
        for directory in directories:
            if names := list_images(root / domain / directory, root):
                images[f"{domain}/{directory}"] = names
    _check_names(map(_class, images), root)
    return images


def _domain(directory: str) -> str:
    return directory.partition("/")[0]


def _class(directory: str) -> str:
    return class_text(directory.partition("/")[2])


def _from_hashes(images: Mapping[str, list[str]]) -> Iterator[tuple[str, int, str, list[str]]]:
    """Yield directory, label, split and names of the cells of a tree without lists."""
    labels = {name: label for label, name in enumerate(sorted(set(map(_class, images))))}
    for _, directories in itertools.groupby(images, key=_domain):
        cells = sorted(directories, key=lambda directory: labels[_class(directory)])
        for split, directory in itertools.product(SPLITS, cells):
            names = [name for name in images[directory] if split_by_path(f"{directory}/{name}") == split]
            if names:
                yield directory, labels[_class(directory)], split, names


def split_by_path(path: str) -> str:
    """Return the split of an image by its path `<domain>/<class>/<file>` alone."""
    return "test" if hash_share(unicodedata.normalize("NFC", path)) < TEST_SHARE else "train"


def _from_lists(
    root: Path, listed: Sequence[str], images: Mapping[str, list[str]]
) -> Iterator[tuple[str, int, str, list[str]]]:
    """Yield directory, label, split and names of the cells that lists name."""
    check = _ListCheck(images)
    domains = list(dict.fromkeys(map(_domain, images)))
    for domain, split in itertools.product(sorted({*domains, *listed}), SPLITS):
        path = root / f"{domain}_{split}.txt"
        lines = read_list(path, domain)
        for number, line in enumerate(lines, start=1):
            check.line(line, f"{path}, line {number}")
        for (directory, label), cell in itertools.groupby(lines, key=lambda line: (_directory(line), line.label)):
            yield directory, label, split, [PurePosixPath(line.path).name for line in cell]


def _directory(line: Line) -> str:
    return str(PurePosixPath(line.path).parent)


class _ListCheck:
    """Checks the lines of all lists against the images, and against each other."""

    def __init__(self, images: Mapping[str, list[str]]) -> None:
        self._left = {directory: set(names) for directory, names in images.items()}
        self._images = {directory: frozenset(names) for directory, names in images.items()}
        self._labels: dict[str, int] = {}
        self._classes: dict[int, str] = {}

    def line(self, line: Line, where: str) -> None:
        """Check a line.

        Raises:
            DataError: it names a file that is missing or named already, gives a class a second label, or a label to a
                second class.
        """
        directory, name, text = _directory(line), PurePosixPath(line.path).name, _class(_directory(line))
        if name not in self._images.get(directory, ()):
            raise DataError(f"{where} names {line.path}, which is missing: complete the folder, or correct the list")
        if name not in self._left[directory]:
            raise DataError(f"{where} names {line.path} a second time: correct the lists")
        self._left[directory].remove(name)
        if (label := self._labels.setdefault(text, line.label)) != line.label:
            raise DataError(f"{where} gives {text!r} the label {line.label}, and an earlier line {label}: correct one")
        if (other := self._classes.setdefault(line.label, text)) != text:
            raise DataError(f"{where} gives {text!r} the label {line.label}, which {other!r} has: correct one")
