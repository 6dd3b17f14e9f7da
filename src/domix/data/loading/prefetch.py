"""Batches made ahead of the training that asks for them: by a thread, or by processes that decode.

Whoever makes a batch makes it whole, by its step (domix.data.loading.loader), so that neither order nor augmentation
can depend on who does.
"""

from __future__ import annotations

import contextlib
import signal
import warnings
from collections.abc import Callable, Generator, Iterator
from multiprocessing.connection import wait

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from domix.data.loading.encoded import Encoded
from domix.data.loading.loader import Batch, Batches
from domix.runtime.ahead import ahead as made_ahead
from domix.runtime.errors import DomixError
from domix.runtime.processes.workers import end_with_parent

# What is sent to all processes of a training at once, and is for the first of them alone to heed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
DYING_S = 5.0  # that a killed worker may take to be gone, on a busy machine, after its connections


class Feed:
    """The batches of a training, in order; iterate once, and close."""

    def __init__(self, make: Callable[[], Generator[Batch]], length: int, tell: Callable[[Batch], None] | None) -> None:
        """Take what makes an iterator over `length` batches, and who is told of each just before it is given out."""
        self._make, self._length, self._tell = make, length, tell
        self._open: list[Generator[Batch]] = []

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        coming = self._run()
        self._open.append(coming)
        return coming

    def _run(self) -> Generator[Batch]:
        with contextlib.closing(self._make()) as coming:
            for batch in coming:
                if self._tell is not None:
                    self._tell(batch)
                yield batch

    def close(self) -> None:
        """End the threads and processes that make batches."""
        while self._open:
            self._open.pop().close()


@contextlib.contextmanager
def prefetched(
    batches: Batches, *, workers: int, pin: bool, ahead: bool, tell: Callable[[Batch], None] | None = None
) -> Generator[Feed]:
    """Yield the batches as something that can be iterated over once within this block.

    Args:
        batches: of one process.
        workers: processes that make batches; 0: this process does.
        pin: put them into page-locked memory, from which a GPU takes them while it computes. Needs a GPU.
        ahead: without workers, let a thread make the next batch while this one is used.
        tell: told of each batch just before it is given out.

    Raises:
        DomixError: a worker died.
    """

    def make() -> Generator[Batch]:
        if workers:
            return _by_processes(batches, workers, pin)
        return _by_thread(batches, pin) if ahead else batches.__iter__()

    try:
        with contextlib.closing(Feed(make, len(batches), tell)) as feed:
            yield feed
    except RuntimeError as error:  # PyTorch raises it from its handler of SIGCHLD, wherever the training is
        if "DataLoader worker" not in str(error):
            raise
        raise _death(error) from error


def _death(error: Exception) -> DomixError:
    return DomixError(
        f"a process that decodes images died ({str(error).strip()}): if it ran out of memory, lower trainer.workers;"
        " run it again to continue"
    )


def _by_thread(batches: Batches, pin: bool) -> Generator[Batch]:
    def make(step: int) -> Batch:
        batch = batches.make(step)
        return _pinned(batch) if pin else batch

    device = torch.cuda.current_device() if pin else None

    def use_device() -> None:
        if device is not None:
            torch.cuda.set_device(device)  # a thread begins with the first GPU

    return made_ahead(make, range(batches.start, batches.total), prepare=use_device)


def _pinned(batch: Batch) -> Batch:
    images = batch.images.pin_memory() if isinstance(batch.images, Tensor) else batch.images
    targets, boxes, hflip = (field.pin_memory() for field in (batch.targets, batch.boxes, batch.hflip))
    return Batch(batch.step, images, targets, boxes, hflip)


class _Steps(Dataset[Batch | DomixError]):
    """What a worker process makes of a step."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __getitem__(self, index: int) -> Batch | DomixError:
        """Return a step's batch, or what is wrong: an error raised here would arrive as its own stack trace."""
        try:
            batch = self._batches.make(index)
        except DomixError as error:
            return error
        try:
            for field in batch:  # else it is shared out of this thread's sight, where an error would be lost
                if isinstance(field, Tensor):
                    field.share_memory_()
                elif isinstance(field, Encoded):
                    field.data.share_memory_()
        except RuntimeError as error:
            return DomixError(
                f"no shared memory is left for a batch ({error}): give this machine or container more (--shm-size), or"
                " lower trainer.workers"
            )
        return batch


def _by_processes(batches: Batches, workers: int, pin: bool) -> Generator[Batch]:
    with _signals_held(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores: as asked
        loader = DataLoader(
            _Steps(batches),
            batch_size=None,
            sampler=range(batches.start, batches.total),
            num_workers=workers,
            prefetch_factor=1,  # a batch a worker: each makes the next while the others' are used
            pin_memory=pin,
            worker_init_fn=_begin,
            multiprocessing_context="fork",  # the captions' tokens need no copies
            generator=torch.Generator(),  # of seeds that nobody uses; the training's own generator stays as it is
        )
        coming = iter(loader)
    processes = coming._workers  # ty: ignore[missing-attribute]
    try:
        for batch in coming:
            if isinstance(batch, DomixError):
                raise batch
            yield batch
    except (OSError, EOFError) as error:  # what is in shared memory can no longer be had from one that has died
        if not wait([process.sentinel for process in processes], DYING_S):
            raise
        raise _death(error) from error
    finally:
        try:
            coming._shutdown_workers()  # ty: ignore[missing-attribute]
        finally:  # the news of a killed worker may come as an error in the midst of that
            for process in processes:
                process.kill()  # as it heeds no SIGTERM, should it not have ended by itself
                process.join()


@contextlib.contextmanager
def _signals_held() -> Generator[None]:
    """Keep signals waiting, for processes that are started here to begin so."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(worker: int) -> None:
    end_with_parent()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
