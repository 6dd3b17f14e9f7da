"""Copies of shards on this machine, of those alone that the training needs now and next.

<folder>/<source>/NNNNN.tar    a shard, whole
<folder>/at-<process>          the last step whose batch a process of this machine was given; not of the first one
<folder>/failed                why no more shards will come

The first process of a machine fetches shards in the order in which the training needs them
(domix.data.loading.fetcher); all processes, and their workers, read them here, and wait for those that have not come
yet.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from domix.data.loading.object_store import read_range
from domix.data.loading.samples import shard_numbers
from domix.data.store.index import open_places, shard_name, shard_number
from domix.runtime.errors import DataError

POLL = 0.02  # seconds between two looks for a shard


class Remote(NamedTuple):
    """A shard that lies in object storage."""

    source: str
    name: str  # of its file
    url: str
    least: int  # bytes: where its last image ends


class Spool:
    """Where the shards of one training are read, on one machine."""

    def __init__(self, root: Path, shards: Sequence[Remote | None]) -> None:
        """Keep shards in a folder of the training below `root`; None stands for one that is not fetched."""
        self.root, self.shards = root, list(shards)
        self._urls = {(shard.source, shard.name): shard.url for shard in shards if shard is not None}
        self._folder: Path | None = None
        self._ended = get_context("fork").Event()  # heard in the processes that decode, too

    @property
    def folder(self) -> Path:
        """Return the training's folder."""
        assert self._folder is not None, "it has none outside of the block that fills it"
        return self._folder

    def begin(self, name: str) -> None:
        """Read the shards of the training `name` from its folder, in this process and those that it starts."""
        self._folder = self.root / name
        self._ended.clear()

    def end(self) -> None:
        """Let nobody of this process wait for a shard any longer."""
        self._ended.set()
        self._folder = None

    def give_up(self, reason: str) -> None:
        """Let nobody of this process wait for a shard any longer, and say why."""
        with contextlib.suppress(OSError):
            (self.folder / "failed").write_text(reason)
        self._ended.set()

    def path(self, source: str, name: str) -> Path:
        """Return where a shard is kept."""
        return self.folder / source / name

    def read(self, source: str, name: str, offset: int, size: int) -> bytes:
        """Return a piece of a shard, when the shard has come; outside of the block that fills the spool, fetch it.

        Raises:
            DataError: it will not come, or is cut short.
        """
        if self._folder is None:
            return read_range(self._urls[source, name], offset, offset + size)
        path = self.path(source, name)
        while True:
            try:
                with open(path, "rb", buffering=0) as file:  # not kept open: it would fill the disk after its deletion
                    data = os.pread(file.fileno(), size, offset)
            except FileNotFoundError:
                self._wait()
                continue
            if len(data) != size:
                raise DataError(f"the shard {path} is cut short: delete it and run again")
            return data

    def _wait(self) -> None:
        if self._ended.wait(POLL):
            failed = self.folder / "failed"
            ended = "no more shards are fetched: training has ended"
            raise DataError(failed.read_text() if failed.exists() else ended, argument="url")

    def mark(self, process: int, step: int) -> None:
        """Note that a process was given a step's batch."""
        with contextlib.suppress(FileNotFoundError):  # the folder is gone when the first process has ended
            (self.folder / f"at-{process}").write_text(str(step))

    def marks(self) -> dict[int, int]:
        """Return the last steps whose batches processes were given."""
        found = {}
        for path in self.folder.glob("at-*"):
            with contextlib.suppress(ValueError, FileNotFoundError):  # it is being written
                found[int(path.name.removeprefix("at-"))] = int(path.read_text())
        return found


class SpooledReader:
    """Reads packed images of a source whose shards are fetched; its index and places lie on this machine."""

    def __init__(self, folder: Path, source: str, spool: Spool) -> None:
        """Take the folder of the index of `source`.

        Raises:
            DataError: the index is missing, or does not fit.
        """
        self._places, self._source, self._spool = open_places(folder, shards=False), source, spool

    def read(self, row: int) -> bytes:
        """Return the encoded image of a row.

        Raises:
            DataError: its shard will not come, or is cut short.
        """
        shard, size, offset = self._places[row].item()
        return self._spool.read(self._source, shard_name(shard), offset, size)


def remotes(samples: pd.DataFrame, urls: Mapping[str, str], folders: Mapping[str, Path]) -> list[Remote | None]:
    """Return the shards of `samples` in the order of `samples.shard_numbers`; None for sources without a URL prefix.

    Args:
        samples: columns `source`, `shard`.
        urls: source -> URL prefix below which its shards lie.
        folders: source -> folder of its index.
    """
    ends = {source: _ends(open_places(folders[source], shards=False)) for source in urls if source in folders}
    _, firsts = np.unique(shard_numbers(samples), return_index=True)
    found: list[Remote | None] = []
    for source, name in samples[["source", "shard"]].iloc[firsts].itertuples(index=False):
        remote = None
        if source in urls:
            remote = Remote(source, name, f"{urls[source].rstrip('/')}/{name}", ends[source][shard_number(name)])
        found.append(remote)
    return found


def _ends(places: np.ndarray) -> dict[int, int]:
    """Return where the last image of each shard ends."""
    shards, starts = np.unique(places["shard"], return_index=True)
    order = np.argsort(starts)
    ends = np.maximum.reduceat(places["offset"] + places["size"], starts[order])
    return dict(zip(shards[order].tolist(), ends.tolist(), strict=True))
