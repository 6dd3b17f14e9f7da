"""How batches reach the training: by whom they are made, and how far ahead."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
from collections.abc import Generator
from typing import TYPE_CHECKING

from domix.data.loading.fetcher import Progress, filled
from domix.data.loading.packed_images import PackedImages
from domix.data.loading.prefetch import Feed, prefetched
from domix.runtime.errors import ParameterError

if TYPE_CHECKING:
    from domix.data.loading.loader import Batches
    from domix.train.job import Job
    from domix.train.machine import Machine


@contextlib.contextmanager
def feed(job: Job, batches: Batches, machine: Machine, *, name: str, process: int) -> Generator[Feed]:
    """Yield `batches` as something to iterate over once within this block, made ahead where that pays.

    Args:
        job: the training.
        batches: this process's.
        machine: what computes.
        name: of the training; another for every training that may run at the same time.
        process: this one's number on the machine.

    Raises:
        ParameterError: samples of shards that are fetched are to be shuffled over all shards.
        DomixError: a process that decodes died, or a folder cannot be written.
    """
    gpu = machine.accelerator == "gpu"
    effort = job.images.effort
    prefetch = functools.partial(
        prefetched,
        batches,
        workers=workers(job, machine) if effort == "decode" else 0,
        pin=gpu and job.trainer.pin_memory,
        ahead=gpu or effort != "copy",  # beside a CPU that computes, copying takes time from it, thread or not
    )
    spool = job.images.spool if isinstance(job.images, PackedImages) else None
    if spool is None:
        with prefetch() as source:
            yield source
        return
    if batches.order.window is None:
        raise ParameterError(
            "trainer.loader is stream, which needs samples shuffled in windows of shards: set"
            f" {job.task.section}.window to a number of shards"
        )
    progress = Progress(spool, process, batches.start)
    own = f"{name}-{platform.node()}"  # machines may share a file system
    with (
        prefetch(tell=progress) as source,
        filled(spool, batches, progress, own, processes=machine.devices),
    ):
        yield source


def workers(job: Job, machine: Machine) -> int:
    """Return how many processes decode for this one; 0: it does so itself, with threads.

    Beside a GPU they are as many as this process's share of the cores; a CPU that trains has none to spare.
    """
    if job.trainer.workers or machine.accelerator == "cpu":
        return job.trainer.workers
    return max(1, min(len(os.sched_getaffinity(0)), (os.cpu_count() or 1) // machine.devices))
