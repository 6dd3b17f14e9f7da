"""Tables of images and captions with a header `filepath<TAB>title`, whoever wrote them: both ways, written and read.

plain    a row is a line, whatever it holds: open_clip's index files, the reference study's
quoted   a field with a quote, a tab or a line break stands in double quotes, those within doubled: pandas, the module
         csv, spreadsheets, Domix's own export

A file does not say which it is, and read the other way its captions would change without a word. So every row with a
quote is looked at: what one way of writing cannot have made decides for the other, and a table that is neither is
refused. Domix's own exports say it in export.json.
"""

from __future__ import annotations

import codecs
import io
import json
import logging
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from domix.runtime.errors import DataError
from domix.runtime.tables import MISSING

IMAGE, TEXT = "filepath", "title"
EXPORTED = "train.tsv"  # the table of an export
DESCRIPTION = "export.json"  # says what the folder of an export holds, and tells it from any other folder
LONGEST_LINE = 1 << 20  # bytes

_UNSAFE, _UNSAFE_BYTES = re.compile(r'["\t\r\n]'), re.compile(rb'["\t\r\n]')
_FIELD = rb'(?:"(?:[^"]++|"")*+"|[^"\t\r\n]*+)'
_ROW = re.compile(rb"%b(?:\t%b)*+\r?\n?" % (_FIELD, _FIELD))
_IN_QUOTES = re.compile(rb'"((?:[^"]++|"")*+)"')
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

log = logging.getLogger(__name__)


def quoted(field: str) -> str:
    """Put a field that needs it into double quotes, those within doubled."""
    return '"' + field.replace('"', '""') + '"' if _UNSAFE.search(field) else field


def padded(text: str) -> str:
    """Return a caption with one more blank at its end if pandas would take it for a missing value without."""
    return f"{text} " if text.rstrip(" ") in MISSING else text


def unpadded(text: str) -> str:
    """Undo `padded`."""
    return text[:-1] if text.endswith(" ") and text.rstrip(" ") in MISSING else text


@dataclass(frozen=True)
class PairTable:
    """A table, and how it is to be read: small and picklable.

    Attributes:
        path: the file.
        columns: how many a row has.
        image, text: the places of the two that are read.
        start: byte at which the rows begin.
        quoted: whether it is the second of the two ways above.
        padded: whether captions were changed by `padded`.
    """

    path: Path
    columns: int
    image: int
    text: int
    start: int
    quoted: bool = False
    padded: bool = False

    def divide(self, size: int) -> Iterator[tuple[int, int, int]]:
        """Yield first byte, last byte and number of the first line of every `size` rows.

        Only the places are kept, so that the table may have any length.
        """
        start = at = self.start
        first, count = 2, 0
        with open(self.path, "rb") as file:
            file.seek(start)
            for line, row in _rows(file, first, quoted=self.quoted):
                if count == size:
                    yield start, at, first
                    start, first, count = at, line, 0
                at, count = at + len(row), count + 1
        if count:
            yield start, at, first

    def rows(self, start: int, stop: int, line: int) -> Iterator[tuple[int, str, str]]:
        """Yield number of the line, image and caption of the rows of one of the parts; lines without text are no rows.

        Raises:
            DataError: a row lacks a column or has one too many, or is no UTF-8 text.
        """
        with open(self.path, "rb") as file:
            file.seek(start)
            data = io.BytesIO(file.read(stop - start))
        for number, row in _rows(data, line, quoted=self.quoted):
            if not row.strip():
                continue
            fields = self._fields(row, number)
            if len(fields) != self.columns:
                raise DataError(
                    f"{self.path}, line {number} has {len(fields)} of the {self.columns} columns that the header names"
                    f" (`{IMAGE}<TAB>{TEXT}`): {row[:80]!r}"
                )
            text = fields[self.text]
            yield number, fields[self.image], unpadded(text) if self.padded else text

    def _fields(self, row: bytes, number: int) -> list[str]:
        text = self._decode(row.removesuffix(b"\n").removesuffix(b"\r"), number)
        if not self.quoted:
            return text.split("\t", self.columns - 1)  # a tab beyond the last column is the caption's
        if '"' not in text:
            return text.split("\t")
        if not _ROW.fullmatch(row):
            raise DataError(f"{self.path}, line {number} has quotes that do not match: correct the table")
        fields = re.findall(r'(?:^|\t)("(?:[^"]|"")*"|[^"\t]*)', text)
        return [field[1:-1].replace('""', '"') if field.startswith('"') else field for field in fields]

    def _decode(self, data: bytes, line: int) -> str:
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            number = line + data[: error.start].count(b"\n")
            raise DataError(f"{self.path}, line {number} is not UTF-8 text: correct the table") from None


def open_pairs(path: Path) -> PairTable:
    """Read a table's header, and find out how its rows are written.

    Raises:
        DataError: it has no such header, is no UTF-8 text, or its quotes fit neither way of writing.
    """
    with open(path, "rb") as file:
        first = file.readline(LONGEST_LINE)
        start = file.tell()
    if first.startswith(_WIDE):
        raise DataError(f"{path} is UTF-16 text: save it as UTF-8")
    names = [name.strip() for name in first.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace").split("\t")]
    in_quotes = any(len(name) > 1 and name[0] == name[-1] == '"' for name in names)
    names = [name.strip('"') for name in names]
    if names.count(IMAGE) != 1 or names.count(TEXT) != 1:
        raise DataError(f"{path} does not begin with the header `{IMAGE}<TAB>{TEXT}`: correct or remove it")
    if further := [name for name in names if name not in (IMAGE, TEXT)]:
        log.warning("%s has further columns, which are not read: %s", path, ", ".join(map(repr, further)))
    table = PairTable(path, len(names), names.index(IMAGE), names.index(TEXT), start)
    dialect = _described(path)
    if dialect is None:
        return replace(table, quoted=_is_quoted(table, in_quotes))
    return replace(table, quoted=dialect == "csv", padded=dialect == "csv")


def _described(path: Path) -> str | None:
    """Return the dialect of a table of Domix's own; None of any other."""
    beside = path.parent / DESCRIPTION
    if path.name != EXPORTED or not beside.is_file():
        return None
    try:
        description: Any = json.loads(beside.read_text(encoding="utf-8"))
        return description["dialect"] if description["format"] == "tsv" else None
    except (ValueError, KeyError, TypeError):
        return None


def _is_quoted(table: PairTable, header: bool) -> bool:
    """Tell whether a table's fields stand in quotes where they must.

    Counted are rows with fields in quotes that needed them, and rows that no writer of quoted tables makes. Rows like
    the first kind occur in plain tables as well (captions of the web hold anything), the second kind in a quoted table
    only where a hand went over it.

    Args:
        table: as far as it is known.
        header: whether the header's names stand in quotes, so that all fields may without need.
    """
    needing, with_comma, bare_comma, strange, where = 0, 0, False, 0, 0
    with open(table.path, "rb") as file:
        file.seek(table.start)
        for number, row in _rows_to_look_at(file):
            if b'"' not in row:
                bare_comma = True
            elif _ROW.fullmatch(row):
                inside = _IN_QUOTES.findall(row)
                needing += any(_UNSAFE_BYTES.search(field) for field in inside)
                with_comma += any(b"," in field for field in inside)
            else:
                strange, where = strange + 1, where or number
    if not bare_comma:  # a spreadsheet's way: fields with a comma stand in quotes, too
        needing += with_comma
    if strange and (header or needing > strange):
        raise DataError(
            f"{table.path} has fields in quotes, as pandas writes them, and line {where} has quotes that are none of"
            f" these: correct it, or, if all quotes are part of the captions, save the table with"
            f" pandas.read_csv(path, sep='\\t', quoting=3).to_csv(path, sep='\\t', index=False)"
        )
    return header or needing > strange


def _rows(file: IO[bytes], line: int, *, quoted: bool) -> Iterator[tuple[int, bytes]]:
    """Yield number of the first line and bytes of every row: in a quoted table line breaks may stand in a field."""
    while row := file.readline():
        taken = [row]
        odd = quoted and row.count(b'"') % 2
        while odd and (more := file.readline()):
            taken.append(more)
            odd ^= more.count(b'"') % 2
        yield line, b"".join(taken) if len(taken) > 1 else row
        line += len(taken)


def _rows_to_look_at(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield as `_rows` those with a quote or a comma; one whose quotes do not match ends with its line."""
    ahead: deque[bytes] = deque()

    def following() -> bytes:
        return ahead.popleft() if ahead else file.readline()

    line = 2
    while row := following():
        taken, size, odd = [row], len(row), row.count(b'"') % 2
        while odd and size < LONGEST_LINE and (more := following()):
            taken.append(more)
            size, odd = size + len(more), odd ^ more.count(b'"') % 2
        whole = b"".join(taken)
        if b'"' in whole or b"," in whole:
            yield line, whole
        if len(taken) > 1 and not _ROW.fullmatch(whole):
            ahead.extendleft(reversed(taken[1:]))
            taken = taken[:1]
        line += len(taken)
