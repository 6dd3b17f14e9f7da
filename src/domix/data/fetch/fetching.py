"""Fetching: find the files that a source reads and verify each of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from domix.data.archives.archive import MANIFEST, Entry, read_manifest
from domix.data.archives.manifests import Item, Manifest, Remote
from domix.data.archives.names import left_behind
from domix.data.fetch.download import check_file
from domix.data.sources.contract import Source
from domix.runtime.errors import DataError
from domix.runtime.progress import Meter, Report


def fetch_files(
    source: Source,
    root: Path,
    *,
    manifest: Manifest | None = None,
    verified: Mapping[str, Entry] | None = None,
    report: Report | None = None,
) -> list[Item]:
    """List the files and folders that a source reads, and verify what can be verified.

    Args:
        source: the data set.
        root: folder of its files.
        manifest: sizes and checksums of files of these names, where they are published.
        verified: file -> what a download has just found it to be; such files are not read again.
        report: told of the progress a few times a second.

    Raises:
        DataError: something is missing, or a file has not the size or checksum that the manifest, or the set's own
            manifest.json, says.
    """
    names, verified = sorted(set(source.files(root))), verified or {}
    folders = [name for name in names if (root / name).is_dir()]
    files = [name for name in names if name not in folders]
    if missing := [name for name in files if not (root / name).is_file()]:
        raise DataError(f"{root / missing[0]} is missing: bring it there, or name another folder", argument="root")
    expected = _expected(root, names, manifest)
    unread = {name: (root / name).stat().st_size for name in files if name not in verified}
    for name, size in unread.items():  # before hours of reading
        if (wanted := expected[name].bytes) not in (None, size):
            raise _wrong(root / name, f"has {size:,} bytes, not {wanted:,}")
    meter = Meter(unread | dict.fromkeys(folders), report)
    items = [_folder_item(root, name, meter) for name in folders]
    items += [Item(name, verified[name].bytes, verified[name].sha256) for name in files if name in verified]
    items += [_file_item(root / name, expected[name], meter) for name in unread]
    return sorted(items, key=lambda item: item.path)


def _expected(root: Path, names: list[str], manifest: Manifest | None) -> dict[str, Remote]:
    """Return what is known about each file beforehand; a set's own manifest outdoes a published one."""
    expected = {name: Remote(name, ()) for name in names}
    expected |= {remote.file: remote for remote in (manifest.files if manifest else ())}
    if MANIFEST in names:
        expected |= {row.file: Remote(row.file, (), row.bytes, row.sha256) for row in read_manifest(root)}
    return expected


def _file_item(path: Path, wanted: Remote, meter: Meter) -> Item:
    entry, problem = check_file(path, wanted, meter)
    if problem is not None:
        raise _wrong(path, problem)
    meter.finish(wanted.file, entry.bytes)
    return Item(entry.file, entry.bytes, entry.sha256)


def _wrong(path: Path, problem: str) -> DataError:
    return DataError(f"{path} {problem} as its manifest says: replace it by the right file")


def _folder_item(root: Path, name: str, meter: Meter) -> Item:
    rows = []
    for path, size in _walk(root / name, "", frozenset()):
        rows.append((path, size))
        meter.advance(name, size)
    if not rows:
        raise DataError(f"the folder {root / name} holds no files: bring them there, or name another", argument="root")
    digest, total = hashlib.sha256(), sum(size for _, size in rows)
    for path, size in sorted(rows):
        digest.update(f"{path}\0{size}\n".encode(errors="surrogateescape"))
    meter.finish(name, total)
    return Item(name, total, digest.hexdigest(), len(rows))


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Yield relative path and size of every file below a folder, links followed, what systems left behind not."""
    state = folder.stat()
    here = (state.st_dev, state.st_ino)
    if here in above:
        raise DataError(f"{folder} is a link to a folder above it: remove the link")
    for entry in _entries(folder):
        if left_behind(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", above | {here})
            continue
        try:
            yield f"{prefix}{entry.name}", entry.stat().st_size
        except FileNotFoundError:
            raise DataError(f"{entry.path} is a link to a file that is not there: remove the link") from None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror}): correct its rights") from error
