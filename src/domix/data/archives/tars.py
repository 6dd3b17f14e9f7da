"""Members of tar files of unknown origin, read where they lie: nothing is extracted, and nothing in them is trusted.

The headers are scanned once, by a parser of our own: Python's `tarfile` takes a damaged header for the end of the
archive, so that half of it would be missing without a word. Format: POSIX.1-2017, pax, "ustar Interchange Format", and
GNU tar's long names.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from domix.data.archives.archive import LARGEST_MEMBER, SMALL
from domix.data.archives.names import folded, left_behind, unsafe_name
from domix.runtime.errors import DataError

BLOCK = 512
FILES = b"0\x007"  # type flags of a plain file: POSIX, before POSIX, and contiguous, which all read as plain
DIRECTORY, GNU_NAME, PAX, PAX_GLOBAL = b"5", b"L", b"x", b"g"
REFUSED = {
    b"1": "is a hard link",
    b"2": "is a symbolic link",
    b"3": "is a device",
    b"4": "is a device",
    b"6": "is a named pipe",
    b"K": "is a link",
    b"S": "is a sparse file",
}
PACKED = {  # first bytes
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
SIMPLE = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*")  # names that need no further question, as most are
PEEK = 1 << 20  # bytes after the end mark that must be zero


class Place(NamedTuple):
    """Where a member's bytes lie in the tar file itself (the outer one, if it is nested)."""

    offset: int
    size: int


class _Header(NamedTuple):
    name: str
    kind: bytes
    size: int


class TarReader:
    """Reads members of an uncompressed tar file, or of a tar file inside one, into memory.

    What systems leave behind (names.py) is not there for a reader. Refused when the archive is opened: compressed
    files; files that are cut off, damaged, or go on after their end mark; names that are absolute or lead out; two
    files of one name (upper and lower case alike); links, devices, pipes, sparse files and unknown kinds; sizes that
    are negative or above `largest`; and extended headers that contradict each other or apply to all members.
    """

    def __init__(
        self, path: Path, inner: Place | None = None, *, name: str = "", largest: int = LARGEST_MEMBER
    ) -> None:
        """Open a tar file and scan its headers.

        Args:
            path: the file.
            inner: where the tar file lies inside `path`, if it is a member of it.
            name: the member's name, for messages.
            largest: bytes that a member may have.

        Raises:
            DataError: the file is missing or not a whole tar file, or holds a member that is refused.
        """
        self.path = path
        self.title = f"{path}, member {name}," if inner else str(path)
        self._largest = largest
        try:
            self._file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise DataError(f"the archive {path} is missing: bring it back") from None
        except PermissionError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}): correct its rights") from error
        try:
            status = os.fstat(self._file)
            if not stat.S_ISREG(status.st_mode):
                raise DataError(f"{path} is no file: name the archive itself")
            end = status.st_size
            self._start, self._end = (inner.offset, inner.offset + inner.size) if inner else (0, end)
            if self._end > end:
                raise DataError(f"{self.title} is cut off: restore it")
            self._places = self._scan()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> TarReader:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the files in the order of the archive, without a leading `./`."""
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def place(self, name: str) -> Place:
        """Return where a member's bytes lie.

        Raises:
            DataError: there is no such member.
        """
        if name not in self._places:
            raise DataError(f"{self.title} does not hold {name}: restore it")
        return self._places[name]

    def read(self, name: str) -> bytes:
        """Return a member's bytes.

        Raises:
            DataError: there is no such member, or the file has been cut off meanwhile.
        """
        place = self.place(name)
        data = os.pread(self._file, place.size, place.offset)
        if len(data) != place.size:
            raise DataError(f"{name} in {self.title} is cut off: restore it")
        return data

    def _scan(self) -> dict[str, Place]:
        """Read all headers."""
        places, seen, at = {}, set(), self._start
        extended = _Extended()
        while (block := self._block(at)) is not None:
            header = self._parse(block)
            at += BLOCK
            if header.kind in (GNU_NAME, PAX, PAX_GLOBAL):
                self._extend(extended, header, at)
                at += _padded(header.size)
                continue
            name, size = extended.apply(header)
            file = header.kind in FILES and not name.endswith("/")
            plain = _plain(name)
            problem = REFUSED[b"S"] if extended.sparse else self._problem(plain, header.kind, size, file)
            same, ignored = folded(plain), left_behind(plain)
            if ignored and file and size >= 0 and not extended.sparse:
                problem = None  # never read, whatever its name
            elif problem is None and file and same in seen:
                problem = "is there twice"
            if problem:
                raise DataError(f"{self.title} holds {name!r}, which {problem}: do not trust this archive")
            if file:
                if at + _padded(size) > self._end:
                    raise DataError(f"{self.title} is cut off in {plain}: restore it")
                if not ignored:
                    seen.add(same)
                    places[plain] = Place(at, size)
                at += _padded(size)
            extended = _Extended()
        if extended.used:
            raise DataError(f"{self.title} is damaged: it ends with an extended header; restore it")
        return places

    def _block(self, at: int) -> bytes | None:
        """Return the header at a place; None at the end mark, a block of zeros."""
        block = os.pread(self._file, max(0, min(BLOCK, self._end - at)), at)
        if at == self._start:
            for magic, method in PACKED.items():
                if block.startswith(magic):
                    raise DataError(f"{self.title} is packed with {method}: unpack it to a plain .tar, and use that")
        if len(block) < BLOCK:
            verdict = "not a tar archive" if at == self._start else "cut off: it has no end mark"
            raise DataError(f"{self.title} is {verdict}; restore it")
        if block.strip(b"\0"):
            return block
        rest = os.pread(self._file, min(PEEK, self._end - at), at)
        if rest.strip(b"\0"):
            raise DataError(f"{self.title} goes on after its end mark, as joined archives do: restore it")
        return None

    def _parse(self, block: bytes) -> _Header:
        """Decode a header block.

        Raises:
            DataError: its checksum or its size is wrong.
        """
        try:
            if _number(block[148:156]) != sum(block[:148]) + sum(block[156:]) + 8 * 0x20:
                raise ValueError("wrong checksum of a header")
            size = _number(block[124:136])
            name = _text(block[:100])
            if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
                name = f"{prefix}/{name}"
        except ValueError as error:
            raise DataError(f"{self.title} is not a whole tar archive ({error}): restore it") from error
        return _Header(name, block[156:157], size)

    def _extend(self, extended: _Extended, header: _Header, at: int) -> None:
        """Take in a header that describes the next member.

        Raises:
            DataError: it is too long, malformed, or describes what is refused.
        """
        if not 0 <= header.size <= SMALL:
            raise DataError(
                f"{self.title} holds an extended header of {header.size:,} bytes: do not trust this archive"
            )
        data = os.pread(self._file, header.size, at)
        if len(data) != header.size or at + _padded(header.size) > self._end:
            raise DataError(f"{self.title} is cut off in an extended header: restore it")
        try:
            if header.kind == GNU_NAME:
                extended.take({"path": _text(data)})
            elif header.kind == PAX:
                extended.take(_records(data))
            elif {"path", "size"} & _records(data).keys():
                raise ValueError("it renames or resizes all members")
        except ValueError as error:
            raise DataError(
                f"{self.title} holds an extended header that is refused ({error}): do not trust this archive"
            ) from error

    def _problem(self, name: str, kind: bytes, size: int, file: bool) -> str | None:
        """Say what is wrong with a member, whose name is plain; None if nothing is."""
        if kind in REFUSED:
            return REFUSED[kind]
        if kind not in FILES and kind != DIRECTORY:
            return f"is of the unknown kind {kind!r}"
        if not file and size:
            return f"is a directory of {size:,} bytes"
        if not 0 <= size <= self._largest:
            return f"has {size:,} bytes"
        if name == ".":
            return "is no file name" if file else None
        return None if SIMPLE.fullmatch(name) else unsafe_name(name)


class _Extended:
    """What extended headers say of the next member."""

    def __init__(self) -> None:
        self.used = False
        self.sparse = False
        self._path: str | None = None
        self._size: int | None = None

    def take(self, records: dict[str, str]) -> None:
        """Take in one header's records.

        Raises:
            ValueError: a second header of the same member, or a size that is no number.
        """
        if self.used:
            raise ValueError("a member has two of them")
        self.used = True
        self.sparse = any(key.startswith("GNU.sparse") for key in records)
        self._path = records.get("path")
        if "size" in records:
            if not (records["size"].isascii() and records["size"].isdigit()):
                raise ValueError(f"a size of {records['size'][:20]!r}")
            self._size = int(records["size"])

    def apply(self, header: _Header) -> tuple[str, int]:
        """Return the name and the size that hold for the member."""
        name = header.name if self._path is None else self._path
        return name, header.size if self._size is None else self._size


def _records(data: bytes) -> dict[str, str]:
    """Parse a pax header: records `<length> <key>=<value>\\n`, where the length counts the whole record.

    Raises:
        ValueError: it is malformed, names a key twice, or is not UTF-8.
    """
    records, at = {}, 0
    while at < len(data):
        digits = data[at : data.find(b" ", at, at + 9)] if b" " in data[at : at + 9] else b""
        length = int(digits) if digits.isdigit() else 0
        record = data[at + len(digits) + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if not key or not equals or not value.endswith(b"\n") or at + length > len(data):
            raise ValueError("a malformed record")
        if (word := key.decode()) in records:
            raise ValueError(f"{word} is there twice")
        if word in ("path", "size") or word.startswith("GNU.sparse"):
            records[word] = value[:-1].decode()
        else:
            records[word] = ""  # times, owners, attributes: no matter, in whatever encoding
        at += length
    return records


def _number(field: bytes) -> int:
    """Decode a number of a header: octal digits, or base 256 if the first bit is set (GNU tar), with its sign."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    digits = field.strip(b"\0 ")
    if digits.strip(b"01234567"):
        raise ValueError("a header's number is none")
    return int(digits or b"0", 8)


def _text(field: bytes) -> str:
    """Decode a name up to its first zero byte; what is not UTF-8 becomes unprintable, and thereby refused."""
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    """Return a size rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK


def _plain(name: str) -> str:
    """Remove what names nothing: the `./` that `tar -c .` puts before names, double slashes, a last slash."""
    return str(PurePosixPath(name)) if name and not SIMPLE.fullmatch(name) else name
