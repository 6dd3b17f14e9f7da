"""DomainNet's layout: an archive a domain, and split lists whose lines are `path label`.

<domain>.zip                 members <domain>/<Class_directory>/<file>
<domain>_train.txt, <domain>_test.txt
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from domix.data.archives.archive import open_zip
from domix.data.classes.names import class_text
from domix.data.sources.contract import LISTING, SPLITS, RawSample
from domix.runtime.errors import DataError


class Line(NamedTuple):
    """A line of a split list."""

    path: str
    label: int

    @property
    def directory(self) -> str:
        """Return the class directory."""
        return PurePosixPath(self.path).parts[1]

    @property
    def key(self) -> str:
        """Return the path without its extension."""
        return str(PurePosixPath(self.path).with_suffix(""))


class Entry(NamedTuple):
    """A sample that a split list names."""

    key: str
    path: str
    domain: str
    class_name: str
    label: int
    split: str
    drawing: str
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
                data=open_zip(self.root / f"{entry.domain}.zip").read(entry.path),
                drawing=entry.drawing,
                pose=entry.pose,
            )


class DomainNetLayout:
    """The archives and split lists of a folder."""

    def __init__(self, root: Path) -> None:
        """Find the domains of a folder, sorted: those that have a training list.

        Raises:
            DataError: there are none.
        """
        self.folder = root
        self.domains = sorted(path.name.removesuffix("_train.txt") for path in root.glob("*_train.txt"))
        if not self.domains:
            raise DataError(f"{root} holds no <domain>_train.txt", argument="root")

    def files(self) -> list[str]:
        """Return the names of the archives and lists."""
        return [name for d in self.domains for name in (f"{d}.zip", *(f"{d}_{split}.txt" for split in SPLITS))]

    def lines(self, domain: str, split: str) -> list[Line]:
        """Read a split list and check it against the archive.

        Raises:
            DataError: the list is missing, a line is not `path label`, names an image twice or one that the archive
                does not hold, or a class has two labels.
        """
        path = self.folder / f"{domain}_{split}.txt"
        lines = read_list(path, domain)
        archive, labels, seen = open_zip(self.folder / f"{domain}.zip"), {}, set()
        for number, line in enumerate(lines, start=1):
            where = f"{path}, line {number}"
            if line.path not in archive:
                raise DataError(f"{where} names {line.path}, which {archive.path} does not hold: fetch both anew")
            if line.key in seen:
                raise DataError(f"{where} names {line.path} a second time: correct the list")
            if labels.setdefault(line.directory, line.label) != line.label:
                raise DataError(
                    f"{where} gives {line.directory} the label {line.label}, earlier {labels[line.directory]}"
                )
            seen.add(line.key)
        return lines

    def entry(self, domain: str, split: str, line: Line) -> Entry:
        """Return the sample that a line of a split list names."""
        return Entry(line.key, line.path, domain, class_text(line.directory), line.label, split, line.key)


def divide(root: Path, entries: Sequence[Entry], size: int) -> list[ListedPart]:
    """Divide samples into parts of `size`, in their order."""
    return [ListedPart(root, tuple(entries[start : start + size])) for start in range(0, len(entries), size)]


def tabulate(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return the columns LISTING of samples."""
    return pd.DataFrame.from_records([entry[: len(LISTING)] for entry in entries], columns=list(LISTING))


def read_list(path: Path, domain: str) -> list[Line]:
    """Parse a split list.

    Raises:
        DataError: the file is missing or empty, or a line is not `<domain>/<class>/<file> <label>`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"the split list {path} is missing: fetch it anew") from None
    except UnicodeDecodeError:
        raise DataError(f"the split list {path} is not UTF-8 text: fetch it anew") from None
    lines = []
    for number, row in enumerate(text.splitlines(), start=1):
        name, _, label = row.rpartition(" ")
        parts = PurePosixPath(name).parts
        if len(parts) != 3 or parts[0] != domain or not (label.isascii() and label.isdigit()):
            raise DataError(f"{path}, line {number} is not `{domain}/<class>/<file> <label>`: {row[:80]!r}")
        lines.append(Line(name, int(label)))
    if not lines:
        raise DataError(f"the split list {path} is empty: fetch it anew")
    return lines
