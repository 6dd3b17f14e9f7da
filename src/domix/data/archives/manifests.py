"""Manifests: which files a data set consists of, as published, and as found on this disk.

One published manifest a source, resources/<source>.json:
    name, title, licence, homepage (or null), note (what a user must know or supply)
    files: a list of file (relative path), urls (tried in turn), bytes, sha256; the last two null where nobody has
    published them: then the first download is trusted, and every later one compared with it

One of what fetch has found and verified, artifacts/raw/<source>/files.json:
    files: a list of files (file, bytes, sha256) and folders (folder, files, bytes, sha256), sorted by name; the sha256
    of a folder is that of the sorted lines `<relative path> NUL <size> LF` of its files, hidden ones left out
It names neither folders of the machine nor times: the same data give the same list everywhere.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from domix.data.archives.names import unsafe_name
from domix.runtime.errors import DataError
from domix.runtime.files import read_json, write_json

NAME = re.compile(r"[a-z0-9]+(?:[-_][a-z0-9]+)*")
SHA256 = re.compile(r"[0-9a-f]{64}")
FILES = "files.json"


@dataclass(frozen=True)
class Remote:
    """A file that can be downloaded.

    Attributes:
        file: relative path below the folder of downloads, with forward slashes.
        urls: http(s) addresses of the same bytes, the best first.
        bytes: its size; None if not published.
        sha256: 64 lower-case hexadecimal digits; None if not published.
    """

    file: str
    urls: tuple[str, ...]
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What a source is; without files, a user must supply them as `note` says."""

    name: str
    title: str
    licence: str
    homepage: str | None
    files: tuple[Remote, ...]
    note: str


@dataclass(frozen=True)
class Item:
    """A file or a folder that a source reads.

    Attributes:
        path: relative to the source's root, with forward slashes.
        bytes: its size; of all files in a folder.
        sha256: of a file its checksum, of a folder that of the names and sizes of its files.
        files: number of files in a folder; None for a file.
    """

    path: str
    bytes: int
    sha256: str
    files: int | None = None


def load_manifest(source: str) -> Manifest | None:
    """Return the manifest of a source that Domix ships; None if there is none.

    Raises:
        DataError: the manifest is malformed.
    """
    if not NAME.fullmatch(source):
        return None
    entry = resources.files("domix.data.archives") / f"resources/{source}.json"
    if not entry.is_file():
        return None
    where = f"the manifest of {source}"
    try:
        tree = json.loads(entry.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{where} is not valid JSON ({error}): correct resources/{source}.json") from error
    manifest = parse_manifest(tree, where)
    if manifest.name != source:
        raise DataError(f"{where} is named {manifest.name!r}: name and file must agree")
    return manifest


def parse_manifest(tree: Any, where: str) -> Manifest:
    """Check a manifest's tree, as JSON gives it.

    Args:
        tree: the manifest.
        where: what to call it in an error.

    Raises:
        DataError: a key is unknown, missing or of the wrong type, or a file's name, address, size or checksum is not
            one.
    """
    fields = _fields(Manifest, tree, where)
    if not isinstance(fields["files"], list):
        raise DataError(f"{where}: files must be a list, not {fields['files']!r}")
    fields["files"] = tuple(_parse_remote(row, f"{where}: files[{i}]") for i, row in enumerate(fields["files"]))
    for key in ("name", "title", "licence", "note"):
        if not isinstance(fields[key], str) or not fields[key].strip():
            raise DataError(f"{where}: {key} must be text, not {fields[key]!r}")
    if fields["homepage"] is not None and not is_web_address(fields["homepage"]):
        raise DataError(f"{where}: homepage must be an http(s) address or null, not {fields['homepage']!r}")
    names = [remote.file.casefold() for remote in fields["files"]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"{where} names the file {twice[0]!r} twice")
    return Manifest(**fields)


def _parse_remote(tree: Any, where: str) -> Remote:
    fields = _fields(Remote, tree, where)
    name, urls, size, digest = fields["file"], fields["urls"], fields["bytes"], fields["sha256"]
    if not isinstance(name, str):
        raise DataError(f"{where}: file must be text, not {name!r}")
    if problem := unsafe_name(name) or _hidden(name):
        raise DataError(f"{where}: the file name {name!r} {problem}")
    if not isinstance(urls, list) or not urls or not all(is_web_address(url) for url in urls):
        raise DataError(f"{where}: urls must be a list of http(s) addresses, not {urls!r}")
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
        raise DataError(f"{where}: bytes must be a whole number or null, not {size!r}")
    if digest is not None and not (isinstance(digest, str) and SHA256.fullmatch(digest)):
        raise DataError(f"{where}: sha256 must be 64 lower-case hexadecimal digits or null, not {digest!r}")
    return Remote(name, tuple(urls), size, digest)


def _hidden(name: str) -> str | None:
    """Hidden names are the downloader's own, for locks and unfinished files."""
    return "is hidden" if PurePosixPath(name).name.startswith(".") else None


def _fields(kind: type, tree: Any, where: str) -> dict[str, Any]:
    """Return a mapping's values if its keys are exactly the fields of a dataclass."""
    if not isinstance(tree, dict):
        raise DataError(f"{where} must be a mapping, not {tree!r}")
    wanted = get_type_hints(kind)
    if unknown := sorted(set(tree) - set(wanted)):
        raise DataError(f"{where} has the unknown key {unknown[0]!r}: known are {', '.join(wanted)}")
    if missing := [key for key in wanted if key not in tree]:
        raise DataError(f"{where} lacks the key {missing[0]!r}")
    return dict(tree)


def is_web_address(text: object) -> bool:
    """Whether `text` is an http(s) address with a host."""
    if not isinstance(text, str) or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def write_files(folder: Path, items: list[Item]) -> None:
    """Write files.json into a folder."""
    rows: list[dict[str, Any]] = []
    for item in items:
        head = {"file": item.path} if item.files is None else {"folder": item.path, "files": item.files}
        rows.append(head | {"bytes": item.bytes, "sha256": item.sha256})
    write_json(folder / FILES, {"files": rows})


def read_files(folder: Path) -> list[Item]:
    """Read files.json of a folder.

    Raises:
        DataError: it is missing or malformed.
    """
    path = folder / FILES
    try:
        return [
            Item(str(row.get("folder") or row["file"]), int(row["bytes"]), str(row["sha256"]), row.get("files"))
            for row in read_json(path)["files"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a list of files", remake=path) from error


def check_unchanged(root: Path, items: list[Item]) -> None:
    """Look whether the files of a source are still there and of the size that fetch found; folders: still there.

    Raises:
        DataError: one is not.
    """
    for item in items:
        path = root / item.path
        there = path.is_file() if item.files is None else path.is_dir()
        if not there:
            raise DataError(f"{path} is no longer there", argument="items")
        if item.files is None and (size := path.stat().st_size) != item.bytes:
            raise DataError(f"{path} has {size:,} bytes, and had {item.bytes:,} when it was verified", argument="items")
