"""Shards: webdataset tar files whose images can also be read one by one, at random, by offset.

A sample is two members, `<key>.json` and `<key>.<extension>`, one after the other, with times, owners and rights
fixed, so that equal samples give equal bytes. webdataset ends the key at the first dot of its last part, which
therefore has none.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import threading
import weakref
from pathlib import Path
from typing import Any, NamedTuple

from domix.data.store.index import open_places, shard_name
from domix.runtime.errors import DataError

BLOCK = 512  # tar's unit
END = b"\0" * (2 * BLOCK)  # two empty blocks end an archive
KEPT = 256  # shards that a reader keeps open: a process may often have 1,024 files at most


class Block(NamedTuple):
    """A sample as it stands in a tar file."""

    data: bytes
    offset: int  # of the image within data
    size: int  # of the image


class Place(NamedTuple):
    """Where an image lies."""

    shard: str
    offset: int
    size: int


def make_block(key: str, extension: str, image: bytes, meta: dict[str, Any]) -> Block:
    """Lay a sample out as tar members.

    Raises:
        DataError: the key cannot name a sample.
    """
    last = key.rpartition("/")[2]
    if not last or "." in last or key.startswith("/"):
        raise DataError(f"{key!r} cannot name a sample: its last part must be there and hold no dot")
    text = json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()
    head = _header(f"{key}.json", len(text)) + _padded(text) + _header(f"{key}.{extension}", len(image))
    return Block(head + _padded(image), len(head), len(image))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % BLOCK)


class ShardWriter:
    """Writes samples into one tar file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open(path, "wb")  # noqa: SIM115 (closed by __exit__)
        self._sha256 = hashlib.sha256()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._write(END)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)

    @property
    def sha256(self) -> str:
        """SHA-256 of what has been written: of the whole file, once it is closed."""
        return self._sha256.hexdigest()

    def add(self, block: Block) -> Place:
        """Append a sample and return where its image lies."""
        start = self._file.tell()
        self._write(block.data)
        return Place(self._path.name, start + block.offset, block.size)


class ShardReader:
    """Reads packed images by row of the index, each with one `pread`; safe to share between threads and processes.

    A copy sent to another process maps the same places file: it costs no memory there.
    """

    def __init__(self, folder: Path) -> None:
        """Prepare to read the images of a packed source.

        Raises:
            DataError: index or shards are missing, or do not fit together.
        """
        self._folder = folder
        self._places = open_places(folder)
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._files)  # descriptors are plain numbers: nothing else would close them

    def __reduce__(self) -> tuple[type[ShardReader], tuple[Path]]:
        return ShardReader, (self._folder,)

    def __len__(self) -> int:
        return len(self._places)

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the shards."""
        with self._lock:
            _close_all(self._files)

    def read(self, row: int) -> bytes:
        """Return the encoded image of a row.

        Raises:
            DataError: its shard is missing or cut short.
        """
        shard, size, offset = self._places[row].item()
        file = self._file(shard)
        try:
            data = os.pread(file, size, offset)
        finally:
            if self._files.get(shard) != file:
                os.close(file)
        if len(data) != size:
            path = self._folder / shard_name(shard)
            raise DataError(f"the shard {path} is cut short", remake=path)
        return data

    def _file(self, shard: int) -> int:
        """Open a shard; keep it open, if there is room, for the next image."""
        file = self._files.get(shard)
        if file is not None:
            return file
        with self._lock:
            if shard in self._files:
                return self._files[shard]
            path = self._folder / shard_name(shard)
            try:
                file = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                raise DataError(f"the shard {path} is missing", remake=path) from None
            if len(self._files) < KEPT:
                self._files[shard] = file
            return file


def _close_all(files: dict[int, int]) -> None:
    while files:
        os.close(files.popitem()[1])
