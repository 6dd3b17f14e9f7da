"""DomainNet's layout: an archive a domain, and split lists whose lines are `path label`.

<domain>.zip                 members <domain>/<Class_directory>/<file>
<domain>_train.txt, <domain>_test.txt
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import NamedTuple

from domix.data.archive import ZipReader
from domix.runtime.errors import DataError

SPLITS = ("train", "test")


class Line(NamedTuple):
    """A line of a split list."""

    path: str
    label: int

    @property
    def directory(self) -> str:
        """Return the class directory."""
        return PurePosixPath(self.path).parts[1]

    @property
    def class_name(self) -> str:
        """Return the class as text, with blanks."""
        return self.directory.replace("_", " ")

    @property
    def key(self) -> str:
        """Return the path without its extension."""
        return str(PurePosixPath(self.path).with_suffix(""))


class DomainNetLayout:
    """The archives and split lists of a folder."""

    def __init__(self, folder: Path) -> None:
        """Find the domains of a folder, sorted: those that have a training list.

        Raises:
            DataError: there are none.
        """
        self.folder = folder
        self.domains = sorted(path.name.removesuffix("_train.txt") for path in folder.glob("*_train.txt"))
        if not self.domains:
            raise DataError(f"{folder} holds no <domain>_train.txt: run dvc repro fetch, or correct fetch.paths")
        self._stack = ExitStack()
        self._archives: dict[str, ZipReader] = {}

    def __enter__(self) -> DomainNetLayout:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._archives.clear()

    def lines(self, domain: str, split: str) -> list[Line]:
        """Read a split list and check it against the archive.

        Raises:
            DataError: the list is missing, a line is not `path label`, names a picture twice or one that the archive
                does not hold, or a class has two labels.
        """
        path = self.folder / f"{domain}_{split}.txt"
        lines = read_list(path, domain)
        archive, labels, seen = self._archive(domain), {}, set()
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

    def read(self, domain: str, line: Line) -> bytes:
        """Return the bytes of a picture that `lines` named."""
        return self._archive(domain).read(line.path)

    def _archive(self, domain: str) -> ZipReader:
        if domain not in self._archives:
            self._archives[domain] = self._stack.enter_context(ZipReader(self.folder / f"{domain}.zip"))
        return self._archives[domain]


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
