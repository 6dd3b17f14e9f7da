"""Files of unknown origin: checked against a manifest, and zip archives read without trusting them."""

from __future__ import annotations

import functools
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from domix.data.archives.names import folded, left_behind, unsafe_name
from domix.runtime.errors import DataError
from domix.runtime.files import read_json

MANIFEST = "manifest.json"
LARGEST_MEMBER = 256 << 20  # bytes of one member, unpacked
LARGEST_RATIO = 200  # unpacked over packed; images are compressed already
SMALL = 1 << 20  # bytes below which a high ratio is harmless: a list, or an image of one colour
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1  # bit of a member's flags


@dataclass(frozen=True)
class Entry:
    """A file that a manifest names."""

    file: str
    bytes: int
    sha256: str


def read_manifest(root: Path) -> list[Entry]:
    """Read `manifest.json` of the folder of a source's files.

    Raises:
        DataError: the manifest is missing or malformed, or names a file outside the folder.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise DataError(f"{path} is missing: {root} is not a data set with a manifest", argument="root", remake=root)
    try:
        entries = [Entry(str(row["file"]), int(row["bytes"]), str(row["sha256"])) for row in read_json(path)["files"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a manifest (a list `files` of file, bytes, sha256): restore it") from error
    for entry in entries:
        if problem := unsafe_name(entry.file):
            raise DataError(f"{path} names {entry.file!r}, which {problem}: do not trust this data set")
    return entries


class ZipReader:
    """Reads members of a zip archive into memory, after every member has been checked.

    Nothing is ever extracted to disk, and what systems leave behind is not there for a reader. Refused when the archive
    is opened: names that are absolute or lead out, two members of one name (upper and lower case alike), links and
    devices, encryption, methods other than stored and deflate, and members that unpack to more than `LARGEST_MEMBER`
    bytes or `LARGEST_RATIO` times their packed size.
    """

    def __init__(self, path: Path) -> None:
        """Open an archive and check its table of contents.

        Raises:
            DataError: the file is missing, is no zip archive, or holds a member that is refused.
        """
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise DataError(f"the archive {path} is missing: bring it back") from None
        except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
            raise DataError(f"{path} is not a whole zip archive ({error}): restore it") from error
        try:
            self._members = self._check()
        except DataError:
            self._zip.close()
            raise

    def _check(self) -> dict[str, zipfile.ZipInfo]:
        members, seen = {}, set()
        for info in self._zip.infolist():
            if left_behind(info.filename):
                continue
            problem = unsafe_name(info.filename) or _unsafe_member(info)
            same = folded(info.filename)
            if problem is None and same in seen:
                problem = "is there twice"
            if problem:
                raise DataError(f"{self.path} holds {info.filename!r}, which {problem}: do not trust this archive")
            seen.add(same)
            members[info.filename] = info
        return members

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def names(self) -> list[str]:
        """Return the names of the files, not the folders, in the order of the table of contents."""
        return [name for name, info in self._members.items() if not info.is_dir()]

    def read(self, name: str) -> bytes:
        """Return a member's bytes.

        Raises:
            DataError: there is no such member, or it is damaged or longer than the table of contents says.
        """
        if name not in self._members:
            raise DataError(f"{self.path} does not hold {name}: restore it")
        info = self._members[name]
        try:
            with self._zip.open(info) as file:
                data = file.read(info.file_size + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise DataError(f"{name} in {self.path} is damaged ({error}): restore it") from error
        if len(data) != info.file_size:
            raise DataError(f"{name} in {self.path} is not as long as it should be: restore it")
        return data


def open_zip(path: Path) -> ZipReader:
    """Return an open archive, the same one for every call in this process until the file changes.

    Checking the table of contents of a large archive takes a second, and a process reads one archive for many parts.

    Raises:
        DataError: as `ZipReader`.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise DataError(f"the archive {path} is missing: bring it back") from None
    return _open_zip(path, state.st_mtime_ns, state.st_size, state.st_ino)


@functools.lru_cache(maxsize=2)
def _open_zip(path: Path, *state: int) -> ZipReader:
    return ZipReader(path)


def _unsafe_member(info: zipfile.ZipInfo) -> str | None:
    """Say what is wrong with a member; None if nothing is."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if info.flag_bits & ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in METHODS:
        return f"is compressed by method {info.compress_type}"
    if info.file_size > LARGEST_MEMBER:
        return f"unpacks to {info.file_size:,} bytes"
    if info.file_size > SMALL and info.file_size > LARGEST_RATIO * info.compress_size:
        return f"unpacks to {info.file_size:,} bytes from {info.compress_size:,}"
    return None
