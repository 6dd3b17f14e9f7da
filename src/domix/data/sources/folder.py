"""Any tree `<domain>/<class>/<file>`, with or without split lists.

<domain>/<class>/<file>                     images; a class is read as its directory's name, with `_` as a blank
<domain>_train.txt, <domain>_test.txt       lines `<domain>/<class>/<file> <label>`, as DomainNet's

If there are lists, they decide which images there are, in which order, in which split, and in which order the classes
are numbered (from 0, whatever the lists begin with); then every domain has both. Without lists, labels go by the sorted
class names of all domains, and an image is for testing if the SHA-256 of its path `<domain>/<class>/<file>`, read as a
number from 0 to 1, is below TEST_SHARE: adding files moves no other from one split to the other.

Names are compared in Unicode's form NFC: a class that is spelled in two forms, here or in two domains, is one class.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from domix.data.archives.names import nfc
from domix.data.classes.names import class_text
from domix.data.sources.contract import SPLITS, Part
from domix.data.sources.image_folders import (
    Cell,
    Folder,
    hash_share,
    is_image,
    list_folder,
    list_images,
    make_keys,
    make_parts,
    same_name,
    tabulate,
)
from domix.data.sources.layout import Labels, Line, Spelled, list_names, read_list
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
        lists = list_names(list_folder(root, root)[1])
        names = [splits.get(split, f"{domain}_{split}.txt") for domain, splits in lists.items() for split in SPLITS]
        return [*_domains(root), *names]

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
        raise DataError(f"{root} holds no images <domain>/<class>/<file>{_astray(root)}: name another folder")
    _check_names(map(nfc, domains), root)
    return sorted(domains, key=lambda name: (nfc(name), name))


def _astray(root: Path) -> str:
    """Say where the images of a tree that is too flat lie."""
    image = _first_image(root, root)
    return f", but images such as {image}, so that {root} is no folder of domains" if image else ""


def _first_image(folder: Path, root: Path, depth: int = 4) -> str | None:
    """Return the path of an image in a folder, or so many folders below it; None if there is none."""
    folders, files = list_folder(folder, root)
    if images := [name for name in files if is_image(name)]:
        return str((folder / images[0]).relative_to(root))
    found = (_first_image(folder / name, root, depth - 1) for name in folders if depth)
    return next(filter(None, found), None)


def _check_names(names: Iterable[str], where: Path) -> None:
    """Refuse names that differ in nothing that keys or a file system keep apart."""
    known: dict[str, str] = {}
    for name in names:
        if (other := known.setdefault(same_name(name), name)) != name:
            raise DataError(f"{where} holds {other} and {name}, which read alike: rename or join them")


def _cells(root: Path) -> Iterator[Cell]:
    """Yield the cells in order."""
    images = _images(root)
    keys = _keys(root, images)
    lists = list_names(list_folder(root, root)[1])
    for directory, label, split, names in _from_lists(root, lists, images) if lists else _from_hashes(images):
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


def _keys(root: Path, images: Mapping[str, list[str]]) -> dict[str, dict[str, str]]:
    """Return the keys of the images of each directory by file name; directories of one name share the names."""
    keys = {}
    for path, directories in itertools.groupby(images, key=nfc):
        places = [(directory, name) for directory in directories for name in images[directory]]
        names = [name for _, name in places]
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise DataError(
                f"{root} holds {path} in two Unicode forms (NFC and NFD), and both hold {twice[0]}: join the folders"
            )
        for (directory, name), key in zip(places, make_keys(path, names), strict=True):
            keys.setdefault(directory, {})[name] = key
    return keys


def _images(root: Path) -> dict[str, list[str]]:
    """Return the images of each directory `<domain>/<class>`, sorted by form NFC; without those that hold none."""
    images = {}
    for domain in _domains(root):
        directories, files = list_folder(root / domain, root)
        if files:
            log.warning("left out %d files of %s that lie in no class, for one %s", len(files), root / domain, files[0])
        spelled = {nfc(directory) for directory in directories}
        _check_names(map(class_text, directories), root / domain)
        if twice := [text for text, count in Counter(map(class_text, spelled)).items() if count > 1]:
            raise DataError(f"{root / domain} holds two directories that are read {twice[0]!r}: join them")
        for directory in directories:
            if names := list_images(root / domain / directory, root):
                images[f"{domain}/{directory}"] = names
            else:
                _require_flat(root, domain, directory)
    _check_names(map(_class, images), root)
    return dict(sorted(images.items(), key=lambda item: (_domain(item[0]), nfc(item[0]), item[0])))


def _require_flat(root: Path, domain: str, directory: str) -> None:
    """Refuse a directory in the place of a class that holds folders of images and no image.

    Raises:
        DataError: it does.
    """
    if (image := _first_image(root / domain / directory, root)) is None:
        return
    raise DataError(
        f"{root} holds {image}, deeper than <domain>/<class>/<file>: if the folders of {root / domain} are the domains,"
        f" name that in fetch.paths; if {directory!r} is no class, move its folders up into {root / domain}"
    )


def _domain(directory: str) -> str:
    return nfc(directory.partition("/")[0])


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
    return "test" if hash_share(nfc(path)) < TEST_SHARE else "train"


def _from_lists(
    root: Path, lists: Mapping[str, Mapping[str, str]], images: Mapping[str, list[str]]
) -> Iterator[tuple[str, int, str, list[str]]]:
    """Yield directory, label, split and names of the cells that lists name."""
    spelled = Spelled(f"{directory}/{name}" for directory, names in images.items() for name in names)
    labels, seen, found = Labels(), set(), []
    for domain, split in itertools.product(sorted({*map(_domain, images), *lists}), SPLITS):
        path = root / lists.get(domain, {}).get(split, f"{domain}_{split}.txt")
        lines = []
        for number, line in enumerate(read_list(path, domain), start=1):
            where = f"{path}, line {number}"
            real = spelled.find(line.path)
            if real is None:
                raise DataError(
                    f"{where} names {line.path}, which is missing: complete the folder, or correct the list"
                )
            if real in seen:
                raise DataError(f"{where} names {line.path} a second time: correct the lists")
            seen.add(real)
            labels.check(_class(line.directory), line.label, where)
            lines.append(line._replace(path=real))
        found.append((split, lines))
    for split, lines in found:
        for (directory, label), cell in itertools.groupby(labels.renumber(lines), key=_cell_of):
            yield directory, label, split, [line.name for line in cell]


def _cell_of(line: Line) -> tuple[str, int]:
    return line.directory, line.label
