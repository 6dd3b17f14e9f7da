"""What sources of images in class directories share: where the files lie, which there are, and parts made of them.

A source describes its samples as cells: images of one directory that share domain, class and split. A store says
where the files of all directories lie: in a folder, in a zip archive, or in a tar file of one tar file a class.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

import pandas as pd

from domix.data.archives.archive import LARGEST_MEMBER, ZipReader, open_zip
from domix.data.archives.names import improper, left_behind
from domix.data.archives.tars import Place, TarReader
from domix.data.sources.contract import LISTING, RawSample, sample_key
from domix.data.store.images import SUFFIXES
from domix.runtime.errors import DataError

log = logging.getLogger(__name__)


class Cell(NamedTuple):
    """Consecutive images of one directory.

    Attributes:
        directory: where the store has them.
        path: the directory as listings and keys name it, wherever the files lie.
        domain, class_name, label, split: as in RawSample.
        names: file names.
        keys: the samples' keys.
        texts: their captions; empty if they bring none.
        border: as in RawSample.
    """

    directory: str
    path: str
    domain: str
    class_name: str | None
    label: int
    split: str
    names: tuple[str, ...]
    keys: tuple[str, ...]
    texts: tuple[str, ...] = ()
    border: int = 0

    def part(self, start: int, stop: int) -> Cell:
        """Return some of the images."""
        return self._replace(names=self.names[start:stop], keys=self.keys[start:stop], texts=self.texts[start:stop])


class Reader(Protocol):
    """An open store."""

    def __contains__(self, name: str, /) -> bool: ...

    def read(self, name: str, /) -> bytes:
        """Return a file's bytes.

        Raises:
            DataError: it is missing or damaged.
        """


class Store(Protocol):
    """Where files lie: small, picklable."""

    def open(self) -> contextlib.AbstractContextManager[Reader]:
        """Return a reader of files, named by paths relative to the store."""


@dataclass(frozen=True)
class ImagePart:
    """Some cells of a store."""

    store: Store
    cells: tuple[Cell, ...]

    def samples(self) -> Iterator[RawSample]:
        """Yield the samples, read one by one.

        Raises:
            DataError: files are missing or damaged.
        """
        with self.store.open() as reader:
            for cell in self.cells:
                paths = [f"{cell.directory}/{name}".lstrip("/") for name in cell.names]
                if absent := [path for path in paths if path not in reader]:
                    raise DataError(
                        f"{len(absent):,} of {len(paths):,} images that {self.store} should hold in"
                        f" {cell.directory or 'it'} are missing, for one {absent[0]}: complete it"
                    )
                for number, path in enumerate(paths):
                    yield RawSample(
                        key=cell.keys[number],
                        domain=cell.domain,
                        class_name=cell.class_name,
                        label=cell.label,
                        split=cell.split,
                        data=reader.read(path),
                        text=cell.texts[number] if cell.texts else None,
                        drawing=cell.keys[number],
                        border=cell.border,
                    )


def make_parts(store: Store, cells: Iterable[Cell], size: int) -> list[ImagePart]:
    """Divide cells, in their order, into parts of exactly `size` samples, but for the last."""
    parts, waiting, room = [], [], size
    for cell in cells:
        start = 0
        while start < len(cell.names):
            piece = cell.part(start, start + room)
            waiting.append(piece)
            start, room = start + len(piece.names), room - len(piece.names)
            if room == 0:
                parts.append(ImagePart(store, tuple(waiting)))
                waiting, room = [], size
    return [*parts, ImagePart(store, tuple(waiting))] if waiting else parts


def tabulate(cells: Iterable[Cell]) -> pd.DataFrame:
    """Return the columns LISTING of the samples of cells."""
    rows = [
        (key, f"{cell.path}/{name}", cell.domain, cell.class_name, cell.label, cell.split)
        for cell in cells
        for name, key in zip(cell.names, cell.keys, strict=True)
    ]
    return pd.DataFrame.from_records(rows, columns=list(LISTING))


def make_keys(path: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of the images of a directory: the path without extension.

    Where files differ in nothing that a key or a file system keeps apart (`a.jpg` and `a.png`, `b!.jpg` and `B_.jpg`),
    each of them has eight hexadecimal digits of its name's SHA-256 appended: no key depends on the order of the files.
    """
    keys = [sample_key(f"{path}/{name}") for name in names]
    count = Counter(key.casefold() for key in keys)
    return tuple(
        key if count[key.casefold()] == 1 else distinct_key(key, name) for key, name in zip(keys, names, strict=True)
    )


def distinct_key(key: str, name: str) -> str:
    """Return the key of a file whose plain one others have, too: with eight digits of its name's SHA-256."""
    return f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def hash_share(name: str) -> float:
    """Return a number from 0 to 1 that depends on a name alone: the first 64 bits of its SHA-256 (UTF-8)."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def proper_text(text: str) -> str:
    """Return a text with halves of surrogate pairs, which JSON can spell and UTF-8 cannot, as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


# Stores -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Folder:
    """Files below a folder."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    @contextlib.contextmanager
    def open(self) -> Generator[Reader]:
        """Return this folder."""
        yield self

    def __contains__(self, name: str) -> bool:
        return (self.root / name).is_file()

    def read(self, name: str) -> bytes:
        """Return a file's bytes.

        Raises:
            DataError: it is missing, too large, or may not be read.
        """
        path = self.root / name
        try:
            size = path.stat().st_size
            if size > LARGEST_MEMBER:
                raise DataError(f"{path} has {size:,} bytes: no image is that large; remove it")
            return path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}): restore it or its rights") from error


@dataclass(frozen=True)
class Zip:
    """Members of a zip archive."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def open(self) -> Generator[ZipReader]:
        """Return the archive's reader, which stays open for further parts."""
        yield open_zip(self.path)


@dataclass(frozen=True)
class Tar:
    """Members of a tar file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def open(self) -> Generator[TarReader]:
        """Open the file and scan its headers."""
        with TarReader(self.path) as reader:
            yield reader


@dataclass(frozen=True)
class ClassTars:
    """Members `<class>/<file>` of a tar file that holds one tar file a class."""

    path: Path
    places: tuple[tuple[str, Place], ...]

    def __str__(self) -> str:
        return str(self.path)

    def only(self, places: Mapping[str, Place]) -> ClassTars:
        """Return the same with these classes."""
        return ClassTars(self.path, tuple(places.items()))

    @contextlib.contextmanager
    def open(self) -> Generator[Reader]:
        """Return a reader that scans one class after the other."""
        with contextlib.ExitStack() as stack:
            yield _ClassTarsReader(self, stack)


class _ClassTarsReader:
    def __init__(self, store: ClassTars, stack: contextlib.ExitStack) -> None:
        self._path, self._places, self._stack = store.path, dict(store.places), stack
        self._name, self._reader = "", None

    def _member(self, path: str) -> tuple[TarReader | None, str]:
        """Return the reader of a path's class and the name in it."""
        directory, _, name = path.partition("/")
        if directory not in self._places:
            return None, name
        if directory != self._name:
            self._stack.close()
            reader = TarReader(self._path, self._places[directory], name=f"{directory}.tar")
            self._name, self._reader = directory, self._stack.enter_context(reader)
        return self._reader, name

    def __contains__(self, path: str) -> bool:
        reader, name = self._member(path)
        return reader is not None and name in reader

    def read(self, path: str) -> bytes:
        reader, name = self._member(path)
        if reader is None:
            raise DataError(f"{self._path} holds no images of {path}: restore it")
        return reader.read(name)


# Folders ------------------------------------------------------------------------------------------


def list_folder(folder: Path, root: Path) -> tuple[list[str], list[str]]:
    """Return the names of a folder's sub-folders and of its files, each sorted, without what systems leave behind.

    Args:
        folder: the folder.
        root: what links may not lead out of.

    Raises:
        DataError: the folder is missing or may not be read, a link leads out of `root` or nowhere, or a name is no
            text.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if left_behind(entry.name):
                    continue
                if improper(entry.name):
                    raise DataError(f"{folder} holds {entry.name!r}, which is no proper file name: rename it")
                if entry.is_symlink():
                    check_link(Path(entry.path), root)
                (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): correct the path or its rights") from error
    return sorted(folders), sorted(files)


def check_link(path: Path, root: Path) -> None:
    """Refuse a link that leads nowhere or out of a folder.

    Raises:
        DataError: it does.
    """
    target = Path(os.path.realpath(path))
    if not target.exists():
        raise DataError(f"{path} is a link to {target}, which does not exist: restore that, or remove the link")
    if not target.is_relative_to(os.path.realpath(root)):
        raise DataError(f"{path} is a link that leads out of {root}: lay the files themselves there")


def is_image(name: str) -> bool:
    """Say whether a file is an image, by its name."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not left_behind(name)


def list_images(folder: Path, root: Path) -> list[str]:
    """Return the names of the images of a folder, sorted; other files are left out, and mentioned.

    Raises:
        DataError: as `list_folder`; or an image is no file.
    """
    folders, files = list_folder(folder, root)
    names = [name for name in files if is_image(name)]
    if others := folders + [name for name in files if not is_image(name)]:
        log.warning("left out %d entries of %s that are no images, for one %s", len(others), folder, others[0])
    for name in names:
        if not stat.S_ISREG((folder / name).stat().st_mode):
            raise DataError(f"{folder / name} is no file: remove it")
    return names


def list_zip(path: Path) -> dict[str, list[str]]:
    """Return the images of a zip archive by their directory, both sorted.

    Raises:
        DataError: the archive is missing or damaged, or holds what is refused.
    """
    return group_images(open_zip(path).names())


def group_images(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the images among paths by their directory, both sorted."""
    grouped: dict[str, list[str]] = {}
    for path in sorted(paths):
        directory, _, name = path.rpartition("/")
        if is_image(path):
            grouped.setdefault(directory, []).append(name)
    return {directory: sorted(grouped[directory]) for directory in sorted(grouped)}


def same_name(name: str) -> str:
    """Return what two directory names share that keys or a file system might take for one."""
    return sample_key(f"{name}/").casefold()
