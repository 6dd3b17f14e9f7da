"""Files that are written whole or not at all.

Everything is first written under a hidden temporary name beside its destination and then renamed, so that a reader, a
killed process or a full disk never leaves half a file under the final name.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psutil

from domix.runtime.errors import DataError, DomixError

CHUNK = 1 << 20


@contextlib.contextmanager
def explain(path: Path) -> Generator[None]:
    """Turn the operating system's refusals while writing `path` into one sentence each.

    Raises:
        DomixError: disk full, folder read-only, quota used up, name taken by a file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DomixError(f"no space left to write {path}: free some disk space and run again") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DomixError(f"may not write {path}: make the folder {path.parent} writable and run again") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise DomixError(f"cannot write {path}: a file stands where a folder is needed; move it away") from error
        raise


def temporary_name(path: Path) -> Path:
    """Return a fresh hidden name beside `path`."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def remove_leftovers(path: Path) -> None:
    """Remove what processes killed while writing the file or folder `path` have left beside it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.tmp-*"):
        owner = leftover.name.rsplit("tmp-", 1)[1].split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):  # another writer of the same file may have been quicker
                    leftover.unlink()


@contextlib.contextmanager
def atomic_folder(path: Path) -> Generator[Path]:
    """Yield an empty temporary folder which replaces `path` when the block ends without an error."""
    temporary = temporary_name(path)
    remove_leftovers(path)
    with explain(path):
        temporary.mkdir(parents=True)
        try:
            yield temporary
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(path: Path) -> Generator[Path]:
    """Yield a temporary file name whose file replaces `path`, synced to disk, when the block ends without an error."""
    temporary = temporary_name(path)
    with explain(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path)
        try:
            yield temporary
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, tree: Any) -> None:
    """Write a JSON file whole or not at all: sorted as given, indented, with a final newline."""
    write_text(path, json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_text(path: Path, *, mend: str | None = "get it anew", line_ends: bool = True) -> str:
    """Read a text that a user may have made or edited, with any system's line ends, as `\\n`, and byte order mark.

    Args:
        path: UTF-8, or UTF-16 with its mark.
        mend: what is to be done where it cannot be read; ends the sentence. None: Domix made the file.
        line_ends: turn them all into `\\n`; else they stay as they are.

    Raises:
        DataError: the file is missing, may not be read, or is no such text.
    """
    try:
        data = path.read_bytes()
        coding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
        text = data.decode(coding)
    except FileNotFoundError:
        raise _unreadable(path, "is missing", mend) from None
    except UnicodeDecodeError:
        raise _unreadable(path, "is not UTF-8 text", mend) from None
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror})", mend) from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if line_ends else text


def read_lines(path: Path, *, mend: str = "get it anew") -> list[str]:
    """Read the lines of a text as `read_text`, without blanks at their ends and empty last lines.

    Raises:
        DataError: as `read_text`.
    """
    lines = [line.rstrip() for line in read_text(path, mend=mend).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _unreadable(path: Path, why: str, mend: str | None) -> DataError:
    """Return the error of a file: with what is to be done, or as one that Domix must make anew."""
    return DataError(f"{path} {why}", remake=path) if mend is None else DataError(f"{path} {why}: {mend}")


def read_json(path: Path, *, mend: str | None = None) -> Any:
    """Read a JSON file; one that a stage makes, unless `mend` says what is to be done where it cannot be read.

    Raises:
        DataError: the file is missing or is not JSON.
    """
    text = read_text(path, mend=mend)
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise _unreadable(path, f"is not valid JSON ({error})", mend) from error


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can, so that it takes no room twice; else copy it."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of(**parts: Any) -> str:
    """Return a short digest of what defines a piece of work, given as JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
