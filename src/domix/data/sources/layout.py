"""DomainNet's layout: an archive a domain, and split lists whose lines are `path label`.

<domain>.zip                 members <domain>/<Class_directory>/<file>
<domain>_train.txt, <domain>_test.txt
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from domix.data.archives.archive import open_zip
from domix.data.archives.names import nfc
from domix.data.classes.names import class_text
from domix.data.sources.contract import LISTING, SPLITS, RawSample
from domix.data.sources.image_folders import is_image, list_folder, make_keys, same_name
from domix.runtime.errors import DataError
from domix.runtime.files import read_lines


class Line(NamedTuple):
    """A line of a split list."""

    path: str  # as the archive or the folder has it, once it has been found there
    label: int

    @property
    def directory(self) -> str:
        """Return the directory `<domain>/<class>`."""
        return str(PurePosixPath(self.path).parent)

    @property
    def name(self) -> str:
        """Return the file's name."""
        return PurePosixPath(self.path).name


class Entry(NamedTuple):
    """A sample that a split list names."""

    key: str
    path: str
    domain: str
    class_name: str
    label: int
    split: str
    drawing: str
    archive: str
    pose: int = 0


@dataclass(frozen=True)
class ListedPart:
    """Consecutive samples of a folder in DomainNet's layout."""

    root: Path
    entries: tuple[Entry, ...]

    def samples(self) -> Iterator[RawSample]:
        """Yield the samples, read from the archives of their domains.

        Raises:
            DataError: an archive is missing or damaged.
        """
        for entry in self.entries:
            yield RawSample(
                key=entry.key,
                domain=entry.domain,
                class_name=entry.class_name,
                label=entry.label,
                split=entry.split,
                data=open_zip(self.root / entry.archive).read(entry.path),
                drawing=entry.drawing,
                pose=entry.pose,
            )


class DomainNetLayout:
    """The archives and split lists of a folder."""

    def __init__(self, root: Path) -> None:
        """Find the domains of a folder, sorted: those that have a training list.

        Raises:
            DataError: there are none, or the folder cannot be read.
        """
        self.folder = root
        self._names = {nfc(name): name for name in list_folder(root, Path("/"))[1]}
        self.domains = [domain for domain, splits in list_names(self._names).items() if "train" in splits]
        if not self.domains:
            raise DataError(f"{root} holds no <domain>_train.txt", argument="root")

    def files(self) -> list[str]:
        """Return the names of the archives and lists."""
        names = [name for d in self.domains for name in (f"{d}.zip", *(f"{d}_{split}.txt" for split in SPLITS))]
        return [self._real(name) for name in names]

    def entries(self, domain: str, split: str) -> list[Entry]:
        """Return what a split list names, after all lists have been checked against the archives and each other.

        Raises:
            DataError: a list is missing, a line is not `path label`, names an image twice or one that the archive does
                not hold, or labels and classes do not belong together one to one.
        """
        keys, archive = self._keys[domain], self._real(f"{domain}.zip")
        return [
            Entry(
                key := keys[line.path],
                line.path,
                domain,
                class_text(PurePosixPath(line.directory).name),
                line.label,
                split,
                drawing=key,
                archive=archive,
            )
            for line in self._lines[domain, split]
        ]

    def _real(self, name: str) -> str:
        """Return a file's name as the disk spells it."""
        return self._names.get(name, name)

    @functools.cached_property
    def _lines(self) -> dict[tuple[str, str], list[Line]]:
        """The lines of all lists, by domain and split."""
        labels = Labels()
        lines = {(d, s): self._read(d, s, labels) for d, s in itertools.product(self.domains, SPLITS)}
        return {key: labels.renumber(part) for key, part in lines.items()}

    @functools.cached_property
    def _keys(self) -> dict[str, dict[str, str]]:
        """The keys of the images by their path, by domain; a drawing may stand in both lists."""
        return {d: self._keys_of(d) for d in self.domains}

    def _keys_of(self, domain: str) -> dict[str, str]:
        directories: dict[str, dict[str, str]] = {}  # path by name: each once
        for split in SPLITS:
            for line in self._lines[domain, split]:
                directories.setdefault(line.directory, {})[line.name] = line.path
        return {
            path: key
            for directory, paths in directories.items()
            for path, key in zip(paths.values(), make_keys(directory, list(paths)), strict=True)
        }

    def _read(self, domain: str, split: str, labels: Labels) -> list[Line]:
        path = self.folder / self._real(f"{domain}_{split}.txt")
        archive = open_zip(self.folder / self._real(f"{domain}.zip"))
        spelled = Spelled(archive.names())
        lines, seen = [], set()
        for number, line in enumerate(read_list(path, domain), start=1):
            where = f"{path}, line {number}"
            member = spelled.find(line.path)
            if member is None:
                held = next(filter(is_image, archive.names()), "no image")
                raise DataError(
                    f"{where} names {line.path}, which {archive.path} does not hold (it holds {held}): replace the one"
                    " that is wrong"
                )
            if member in seen:
                raise DataError(f"{where} names {line.path} a second time: correct the list")
            seen.add(member)
            labels.check(class_text(PurePosixPath(line.directory).name), line.label, where)
            lines.append(line._replace(path=member))
        return lines


class Spelled:
    """Names as a disk or an archive spells them, found by any Unicode form of theirs."""

    def __init__(self, names: Iterable[str]) -> None:
        """Take the names."""
        self._names = set(names)
        self._other = {nfc(name): name for name in self._names if not name.isascii()}

    def find(self, name: str) -> str | None:
        """Return the name as it is spelled there; None if it is not there in any form."""
        return name if name in self._names else self._other.get(nfc(name))


class Labels:
    """The labels that lists give to classes: one each, over all lists of a source."""

    def __init__(self) -> None:
        """Begin without any."""
        self._labels: dict[str, int] = {}
        self._classes: dict[int, str] = {}
        self._spelled: dict[str, str] = {}

    def check(self, text: str, label: int, where: str) -> None:
        """Take in what a line says.

        Raises:
            DataError: it gives a class a second label, or a label to a second class; or two classes differ in nothing
                that keys keep apart.
        """
        if (known := self._labels.setdefault(text, label)) != label:
            raise DataError(f"{where} gives {text!r} the label {label}, and an earlier line {known}: correct one")
        if (other := self._classes.setdefault(label, text)) != text:
            raise DataError(f"{where} gives {text!r} the label {label}, which {other!r} has: correct one")
        if (other := self._spelled.setdefault(same_name(text), text)) != text:
            raise DataError(f"{where} names the class {text!r}, which reads like {other!r}: rename or join them")

    def renumber(self, lines: list[Line]) -> list[Line]:
        """Return lines with labels from 0 without gaps, in the order of those that the lists give.

        Lists of other studies count from 1, and those of some classes alone leave gaps.
        """
        numbers = {label: number for number, label in enumerate(sorted(self._classes))}
        if all(label == number for label, number in numbers.items()):
            return lines
        return [line._replace(label=numbers[line.label]) for line in lines]


def divide(root: Path, entries: Sequence[Entry], size: int) -> list[ListedPart]:
    """Divide samples into parts of `size`, in their order."""
    return [ListedPart(root, tuple(entries[start : start + size])) for start in range(0, len(entries), size)]


def tabulate(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return the columns LISTING of samples."""
    return pd.DataFrame.from_records([entry[: len(LISTING)] for entry in entries], columns=list(LISTING))


def list_names(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the split lists among file names: domain, sorted and in form NFC -> split -> file name."""
    found: dict[str, dict[str, str]] = {}
    for name, split in itertools.product(sorted(names), SPLITS):
        if name.endswith(f"_{split}.txt"):
            found.setdefault(nfc(name.removesuffix(f"_{split}.txt")), {})[split] = name
    return dict(sorted(found.items()))


def read_list(path: Path, domain: str) -> list[Line]:
    """Parse a split list.

    Raises:
        DataError: the file is missing or empty, or a line is not `<domain>/<class>/<file> <label>`.
    """
    try:
        rows = read_lines(path, mend="complete the lists")
    except DataError as error:
        raise DataError(f"the split list {error}") from error
    lines = []
    for number, row in enumerate(rows, start=1):
        if not row:
            continue
        name, _, label = row.rpartition(" ")
        parts = PurePosixPath(name.rstrip()).parts
        if len(parts) != 3 or nfc(parts[0]) != domain or not (label.isascii() and label.isdigit()):
            raise DataError(f"{path}, line {number} is not `{domain}/<class>/<file> <label>`: {row[:80]!r}")
        lines.append(Line(name.rstrip(), int(label)))
    if not lines:
        raise DataError(f"the split list {path} is empty: restore it")
    return lines
