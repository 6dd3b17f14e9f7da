"""Shards: webdataset tar files whose pictures can also be read one by one, at random, by offset.

A sample is two members, `<key>.json` and `<key>.<extension>`, one after the other, with times, owners and rights
fixed, so that equal samples give equal bytes. webdataset ends the key at the first dot of its last part, which
therefore has none.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from domix.runtime.errors import DataError

BLOCK = 512  # tar's unit
END = b"\0" * (2 * BLOCK)  # two empty blocks end an archive


class Block(NamedTuple):
    """A sample as it stands in a tar file."""

    data: bytes
    offset: int  # of the picture within data
    size: int  # of the picture


class Place(NamedTuple):
    """Where a picture lies."""

    shard: str
    offset: int
    size: int


def make_block(key: str, extension: str, picture: bytes, meta: dict[str, Any]) -> Block:
    """Lay a sample out as tar members.

    Raises:
        DataError: the key cannot name a sample.
    """
    last = key.rpartition("/")[2]
    if not last or "." in last or key.startswith("/"):
        raise DataError(f"{key!r} cannot name a sample: its last part must be there and hold no dot")
    text = json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()
    head = _header(f"{key}.json", len(text)) + _padded(text) + _header(f"{key}.{extension}", len(picture))
    return Block(head + _padded(picture), len(head), len(picture))


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % BLOCK)


class ShardWriter:
    """Writes samples into numbered tar files of at most `limit` bytes; a greater sample has a file of its own."""

    def __init__(self, folder: Path, *, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._count = 0
        self._file: io.BufferedWriter | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_shard()

    def add(self, block: Block) -> Place:
        """Append a sample and return where its picture lies."""
        if self._file is not None and self._file.tell() + len(block.data) + len(END) > self._limit:
            self._end_shard()
        if self._file is None:
            self._file = open(self._folder / f"{self._count:05d}.tar", "wb")  # noqa: SIM115 (closed by _end_shard)
            self._count += 1
        start = self._file.tell()
        self._file.write(block.data)
        return Place(Path(self._file.name).name, start + block.offset, block.size)

    def _end_shard(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with file:
                file.write(END)


class ShardReader:
    """Reads packed pictures by row of the index, each with one `pread`; safe to share between threads."""

    def __init__(self, folder: Path, index: pd.DataFrame) -> None:
        """Prepare to read the pictures of `index` (from `domix.data.index.read_index`), whose row numbers count."""
        codes, shards = pd.factorize(index["shard"])
        self._paths = [folder / str(shard) for shard in shards]
        self._shard: np.ndarray = codes
        self._offset = index["offset"].to_numpy()
        self._size = index["size"].to_numpy()
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._shard)

    def __enter__(self) -> ShardReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the shards."""
        with self._lock:
            while self._files:
                os.close(self._files.popitem()[1])

    def read(self, row: int) -> bytes:
        """Return the encoded picture of a row.

        Raises:
            DataError: its shard is missing or cut short.
        """
        shard, size = int(self._shard[row]), int(self._size[row])
        data = os.pread(self._file(shard), size, int(self._offset[row]))
        if len(data) != size:
            raise DataError(
                f"the shard {self._paths[shard]} is cut short: delete it and run dvc checkout or dvc repro pack"
            )
        return data

    def _file(self, shard: int) -> int:
        with self._lock:
            if shard not in self._files:
                try:
                    self._files[shard] = os.open(self._paths[shard], os.O_RDONLY)
                except FileNotFoundError:
                    raise DataError(
                        f"the shard {self._paths[shard]} is missing: run dvc checkout or dvc repro pack"
                    ) from None
            return self._files[shard]
