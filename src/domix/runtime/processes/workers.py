"""Worker processes: how pools of them are made, and that none outlives the process that it works for.

A process that is killed cannot end its workers. They would wait for work for good, and a fork server, which ends with
the last of them, would wait beside them. So each worker watches for its parent's end: by a pipe of which the parent
holds the other end, which the system closes however the parent ends, under every start method and on every system.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

ORPHANED = 1  # exit code of a worker whose parent is gone; nobody is left to read it


def process_pool(count: int, prepare: Callable[[], object] | None = None) -> ProcessPoolExecutor:
    """Return a pool of at most `count` processes that end with this one.

    They come from a fork server where there is one: forking a process that holds threads or a GPU is not safe, as locks
    are copied while they are held (pyarrow's, say), and a fresh start each is slow.

    Args:
        count: of processes, at least 1.
        prepare: called in each before its work: a function of a module.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    return ProcessPoolExecutor(count, context, initializer=_begin, initargs=(prepare,))


def end_with_parent() -> None:
    """Let this process end, within a moment, when the one that it was made by ends: from now on, or if it has by now.

    For processes of `multiprocessing`, by any start method; each calls it first of all.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process is no worker"
    threading.Thread(target=_outlive, args=(parent.join,), name="end-with-parent", daemon=True).start()


def _begin(prepare: Callable[[], object] | None) -> None:
    end_with_parent()
    if prepare is not None:
        prepare()


def _outlive(wait: Callable[[], object]) -> None:
    """Wait for the parent's end, then end this process, whatever its other threads do."""
    wait()
    os._exit(ORPHANED)
