"""Fetches the shards of a training ahead of it, and deletes those that it has passed.

Samples come in windows of shards (loader.Order), so a training needs few shards at a time. The fetcher follows the same
order from the training's step on. It keeps two windows' shards at most: the one in use and the next.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import threading
from collections.abc import Generator, Iterator
from typing import NamedTuple

import torch

from domix.data.loading.loader import Batch, Batches
from domix.data.loading.object_store import copy
from domix.data.loading.spool import POLL, Remote, Spool
from domix.runtime.errors import DomixError
from domix.runtime.files import explain
from domix.runtime.retry import RetryPolicy, Stopped

logger = logging.getLogger(__name__)


class Need(NamedTuple):
    """An epoch's use of a shard: from step `first` to step `last`."""

    first: int
    last: int
    shard: int


def needs(batches: Batches) -> Iterator[Need]:
    """Yield which shards the steps from `batches.start` on need, in the order of their first steps."""
    order, length, batch = batches.order, batches.length, batches.batch
    assert order.shards is not None
    count = int(order.shards.max()) + 1
    for epoch in itertools.count(batches.start * batch // length):
        if epoch * length >= batches.total * batch:
            return
        steps = (epoch * length + torch.arange(length)) // batch
        kept = (steps >= batches.start) & (steps < batches.total)
        steps, shards = steps[kept], order.shards[order.epoch(epoch)[:length][kept]]
        first = torch.full((count,), batches.total).scatter_reduce(0, shards, steps, "amin")
        last = torch.full((count,), -1).scatter_reduce(0, shards, steps, "amax")
        for shard in first.argsort(stable=True).tolist():
            if last[shard] >= 0:
                yield Need(int(first[shard]), int(last[shard]), shard)


class Progress:
    """How far a process of a training has come: told of every batch that it is given."""

    def __init__(self, spool: Spool, process: int, start: int) -> None:
        """Stand before step `start`, in the machine's process of number `process`."""
        self.at, self.process, self._spool = start - 1, process, spool  # at: the last step that has its batch

    def __call__(self, batch: Batch) -> None:
        """Note a batch that is given out."""
        self.at = batch.step
        if self.process:
            self._spool.mark(self.process, batch.step)  # for the first process to see


class Fetcher(threading.Thread):
    """Keeps a spool filled, from where the training is on."""

    def __init__(
        self, spool: Spool, batches: Batches, progress: Progress, *, processes: int, patience: RetryPolicy
    ) -> None:
        """Fetch for the `processes` of this machine, all of which read the spool; `progress` is this one's."""
        super().__init__(name="fetcher", daemon=True)
        self._spool, self._progress, self._processes, self._patience = spool, progress, processes, patience
        self._needs = (need for need in needs(batches) if spool.shards[need.shard] is not None)
        self._next = next(self._needs, None)
        assert batches.order.window is not None
        self._bound = 2 * batches.order.window
        self._start, self._horizon = batches.start, batches.length // batches.batch + 1
        self._held: dict[int, int] = {}  # shard -> last step that needs it, of those known
        self._stopped = threading.Event()

    def prepare(self) -> None:
        """Make the folder; keep whole shards that an earlier run has left, and nothing else.

        Raises:
            DomixError: the folder cannot be written.
        """
        folder = self._spool.folder
        with explain(folder):
            folder.mkdir(parents=True, exist_ok=True)
        known = {self._spool.path(s.source, s.name): number for number, s in enumerate(self._spool.shards) if s}
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            if path in known:
                self._held[known[path]] = -1
            else:
                path.unlink()

    def run(self) -> None:
        """Fetch until stopped; tell those who wait if something fails."""
        try:
            while not self._stopped.is_set():
                if (shard := self._due()) is None:
                    self._stopped.wait(POLL)
                else:
                    self._fetch(self._remote(shard))
        except Stopped:
            pass
        except DomixError as error:
            self._spool.give_up(str(error))
        except BaseException as error:
            self._spool.give_up(f"fetching shards ended unexpectedly: {error!r}")
            raise

    def stop(self) -> None:
        """End, after the range of a shard that is coming just now."""
        self._stopped.set()
        self.join()

    def _due(self) -> int | None:
        """Return the shard to fetch now, for which there is room; None if there is none yet."""
        passed = self._passed()
        while (need := self._next) is not None and need.first <= passed + self._horizon:
            new = need.shard not in self._held
            if new and not self._make_room(passed) and need.first > passed + 1:
                return None  # what the next step needs is fetched all the same
            self._held[need.shard] = max(need.last, self._held.get(need.shard, -1))
            self._next = next(self._needs, None)
            if new:
                return need.shard
        return None

    def _passed(self) -> int:
        """Return the last step whose batch all of this machine's processes have been given."""
        marks = self._spool.marks()
        return min([self._progress.at, *(marks.get(process, self._start - 1) for process in range(1, self._processes))])

    def _make_room(self, passed: int) -> bool:
        """Delete shards that no step needs any longer until one more has room; tell whether it has."""
        while len(self._held) >= self._bound:
            shard = min(self._held, key=self._held.__getitem__)
            if self._held[shard] > passed:
                return False
            remote = self._remote(shard)
            self._spool.path(remote.source, remote.name).unlink(missing_ok=True)
            del self._held[shard]
        return True

    def _remote(self, shard: int) -> Remote:
        remote = self._spool.shards[shard]
        assert remote is not None
        return remote

    def _fetch(self, shard: Remote) -> None:
        target = self._spool.path(shard.source, shard.name)
        copy(shard.url, target, least=shard.least, stopped=self._stopped, patience=self._patience)
        logger.debug("%s has come", shard.url)


@contextlib.contextmanager
def filled(
    spool: Spool,
    batches: Batches,
    progress: Progress,
    name: str,
    *,
    processes: int,
    patience: RetryPolicy | None = None,
) -> Generator[None]:
    """Keep the spool filled within this block, in the first of this machine's `processes`.

    Args:
        spool: what the images of `batches` are read from.
        batches: those of the training `name`, which must be another for every training that runs at the same time.
        progress: of this process.
        name: see above.
        processes: of the training on this machine.
        patience: with the object storage.

    Raises:
        DomixError: the folder cannot be written.
    """
    spool.begin(name)
    fetcher = None
    try:
        if progress.process == 0:
            fetcher = Fetcher(spool, batches, progress, processes=processes, patience=patience or RetryPolicy())
            fetcher.prepare()
            fetcher.start()
        yield
    finally:
        if fetcher is not None and fetcher.is_alive():
            fetcher.stop()
        if progress.process == 0 and progress.at == batches.total - 1:
            shutil.rmtree(spool.folder, ignore_errors=True)
        spool.end()
