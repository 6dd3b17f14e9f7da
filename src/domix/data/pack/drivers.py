"""Drivers of packing: the processes of this machine, or a Ray cluster. The bytes are the same from both."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from domix.runtime.errors import DomixError
from domix.runtime.memory import keep_freed_memory
from domix.runtime.processes.workers import process_pool

if TYPE_CHECKING:
    from domix.data.pack.packing import Driver, PackStats, Unit

AHEAD = 2  # units that wait for each process


def get_driver(name: str, workers: int) -> Driver:
    """Return the driver `processes` or `ray`, with `workers` processes; 0: one a core; 1: this process alone."""
    return partial({"processes": with_processes, "ray": with_ray}[name], workers=workers)


def with_processes(units: Sequence[Unit], folder: Path, *, workers: int) -> Iterator[PackStats]:
    """Pack units with a pool of processes of this machine.

    Raises:
        DomixError: a process was killed, or as `pack_unit`.
    """
    from domix.data.pack.packing import pack_unit

    count = min(workers or os.cpu_count() or 1, len(units))
    if count <= 1:
        yield from (pack_unit(unit, folder) for unit in units)
        return
    before = set(multiprocessing.active_children())
    pool = process_pool(count, _ignore_interrupt)
    try:
        waiting: set[Future[PackStats]] = set()
        for unit in units:
            waiting.add(pool.submit(_work, pack_unit, unit, folder))
            if len(waiting) >= AHEAD * count:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        for future in waiting:
            yield future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise DomixError(
            "a packing process was killed, most likely for want of memory: lower pack.workers or pack.shard_samples and"
            " run again; finished shards are kept"
        ) from None
    finally:  # where the loop ended early, a unit may take minutes more: unfinished units leave nothing behind
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent process, which ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(pack_unit: Callable[[Unit, Path], PackStats], unit: Unit, folder: Path) -> PackStats:
    """Do one unit in a process of its own."""
    keep_freed_memory()
    return pack_unit(unit, folder)


def with_ray(units: Sequence[Unit], folder: Path, *, workers: int) -> Iterator[PackStats]:
    """Pack units on a Ray cluster: the one that this process is connected to or RAY_ADDRESS names, else a local one.

    The sources' files and `folder` must lie on storage that every node sees under the same path, and Domix must be
    installed on every node.

    Raises:
        DomixError: Ray is not installed, or as `pack_unit`.
    """
    try:
        import ray
        from ray.exceptions import RayTaskError
    except ImportError:
        raise DomixError("pack.driver is ray, which is not installed: pip install 'domix[ray]'") from None
    from domix.data.pack.packing import pack_unit

    own = not ray.is_initialized()
    if own:
        ray.init(log_to_driver=False, logging_level=logging.WARNING)
    try:
        task = ray.remote(max_retries=2)(_work)
        count = workers or int(ray.cluster_resources().get("CPU", 1))
        waiting: list[ray.ObjectRef] = []
        for unit in units:
            waiting.append(task.remote(pack_unit, unit, folder.absolute()))
            if len(waiting) >= AHEAD * count:
                done, waiting = ray.wait(waiting)
                yield from ray.get(done)
        while waiting:
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)
    except RayTaskError as error:
        if isinstance(error.cause, DomixError):
            raise error.cause from None
        raise
    finally:
        if own:
            ray.shutdown()
