"""Batches made ahead: in order, by a thread or by processes, whose troubles are told in a sentence."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.utils.data import dataloader

from domix.data.loading import prefetch
from domix.data.loading.images import Images
from domix.data.loading.loader import Batches, Order
from domix.data.loading.prefetch import SIGNALS, prefetched
from domix.data.loading.windows import Windows
from domix.runtime.errors import DataError, DomixError, Interrupted
from domix.train.fit import fit
from domix.train.session import Session
from tests.packed_sources import AUGMENTATION, equal, make_job, write_sources
from tests.tiny import make_images

COUNT = 20
BAD = 13  # a row


class Watched(Images):
    """Images that remember how often they were cut, and may break."""

    def __init__(self, broken: bool = False) -> None:
        whole = make_images(COUNT)
        super().__init__(whole.sizes, whole._buffer)
        self.broken, self.cuts = broken, 0

    def cut(self, rows: torch.Tensor, windows: Windows | None = None) -> torch.Tensor:
        self.cuts += 1
        if self.broken and BAD in rows.tolist():
            raise DataError("the packed image real/axe/13 cannot be decoded")
        return super().cut(rows, windows)


def batches_of(images: Images | None = None, *, total: int = 12) -> Batches:
    tokens = torch.arange(COUNT, dtype=torch.int32)[:, None]
    order = Order(count=COUNT, seed=0)
    return Batches(images or Watched(), tokens, AUGMENTATION, order, batch=4, total=total)


@pytest.fixture
def no_orphans() -> Iterator[None]:
    before = set(psutil.Process().children(recursive=True))
    yield
    left = set(psutil.Process().children(recursive=True)) - before
    for process in left:
        process.kill()  # else the tests would wait for it in the end
    assert not left


def children() -> list[psutil.Process]:
    """Return the workers; other tests may have left processes of other kinds, which last."""
    return [psutil.Process(process.pid) for process in multiprocessing.active_children()]


@pytest.mark.usefixtures("no_orphans")
@pytest.mark.parametrize(("workers", "ahead"), [(0, False), (0, True), (1, False), (3, False)])
def test_batches_come_in_order(workers: int, ahead: bool) -> None:
    told: list[int] = []
    with prefetched(batches_of(), workers=workers, pin=False, ahead=ahead, tell=lambda b: told.append(b.step)) as feed:
        assert len(feed) == 12
        found = list(feed)
    assert all(equal(one, other) for one, other in zip(found, batches_of(), strict=True))
    assert told == list(range(12))


@pytest.mark.parametrize(("ahead", "made"), [(False, 3), (True, 4)])
def test_a_thread_is_one_batch_ahead_and_no_more(ahead: bool, made: int) -> None:
    images, others = Watched(), set(threading.enumerate())  # other tests' pools may not have been collected yet
    with prefetched(batches_of(images), workers=0, pin=False, ahead=ahead) as feed:
        coming = iter(feed)
        for _ in range(3):
            next(coming)
    assert images.cuts == made  # the block's end has waited for the thread
    assert not set(threading.enumerate()) - others


@pytest.mark.usefixtures("no_orphans")
def test_what_is_made_ahead_is_bounded() -> None:
    """Workers that could make a thousand batches make as many as they are themselves, ahead of the reader."""
    counted = torch.zeros(1, dtype=torch.int64).share_memory_()

    class Counted(Watched):
        def cut(self, rows: torch.Tensor, windows: Windows | None = None) -> torch.Tensor:
            counted.add_(1)
            return super().cut(rows, windows)

    with prefetched(batches_of(Counted(), total=1000), workers=1, pin=False, ahead=False) as feed:
        coming = iter(feed)
        for _ in range(5):
            next(coming)
    assert 5 <= counted.item() <= 6


@pytest.mark.usefixtures("no_orphans")
@pytest.mark.parametrize(("workers", "ahead"), [(0, False), (0, True), (2, False)])
def test_a_damaged_image_is_told_as_it_is(workers: int, ahead: bool) -> None:
    batches = batches_of(Watched(broken=True))
    bad = next(step for step in range(12) if BAD in batches.rows(step).tolist())
    found = []
    with (
        pytest.raises(DataError, match=r"^the packed image real/axe/13 cannot be decoded$"),
        prefetched(batches, workers=workers, pin=False, ahead=ahead) as feed,
    ):
        for batch in feed:
            found.append(batch)
    assert [batch.step for batch in found] == list(range(bad))


@pytest.mark.usefixtures("no_orphans")
def test_a_killed_worker_is_told_in_a_sentence() -> None:
    with (
        pytest.raises(DomixError, match=r"^a process that decodes images died .*lower trainer\.workers; run it"),
        prefetched(batches_of(total=100_000), workers=2, pin=False, ahead=False) as feed,
    ):
        for batch in feed:
            if batch.step == 3:
                children()[0].send_signal(signal.SIGKILL)


@pytest.mark.usefixtures("no_orphans")
@pytest.mark.parametrize("error", [ConnectionResetError("reset"), EOFError(), FileNotFoundError("no socket")])
@pytest.mark.parametrize("killed", [True, False])
def test_a_worker_that_dies_while_it_hands_a_batch_over_is_told_likewise(
    monkeypatch: pytest.MonkeyPatch, error: Exception, killed: bool
) -> None:
    def broken(*arguments: object) -> object:
        if killed:
            children()[0].send_signal(signal.SIGKILL)  # on a busy machine it lives on for a moment
        raise error

    if not killed:
        monkeypatch.setattr(prefetch, "DYING_S", 0.1)  # nothing dies that could be waited for

    kind, says = (DomixError, "^a process that decodes images died") if killed else (type(error), None)
    with (
        pytest.raises(kind, match=says),
        prefetched(batches_of(total=100_000), workers=1, pin=False, ahead=False) as feed,
    ):
        for batch in feed:
            if batch.step == 3:  # by now the worker has begun, and takes no part in what follows
                monkeypatch.setattr(torch.multiprocessing.reductions, "rebuild_storage_fd", broken)


@pytest.mark.usefixtures("no_orphans")
def test_the_news_of_a_killed_worker_does_not_keep_the_others_from_being_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's handler of SIGCHLD raises wherever the training is: also where its workers are being ended."""

    def struck(self: Any) -> None:
        self._shutdown = True
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "__del__", lambda self: None)
    monkeypatch.setattr(dataloader._MultiProcessingDataLoaderIter, "_shutdown_workers", struck)
    with (
        pytest.raises(DomixError, match=r"^a process that decodes images died \(DataLoader worker \(pid 7\)"),
        prefetched(batches_of(), workers=2, pin=False, ahead=False) as feed,
    ):
        next(iter(feed))


@pytest.mark.usefixtures("no_orphans")
def test_workers_leave_signals_to_the_training() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    found = []
    with prefetched(batches_of(), workers=2, pin=False, ahead=False) as feed:
        for batch in feed:
            found.append(batch)
            for child in children():
                for number in SIGNALS:
                    child.send_signal(number)
    assert all(equal(one, other) for one, other in zip(found, batches_of(), strict=True))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.usefixtures("no_orphans")
def test_too_little_shared_memory_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(tensor: torch.Tensor) -> None:
        raise RuntimeError("unable to allocate shared memory(shm)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", refuse)
    with (
        pytest.raises(DomixError, match=r"^no shared memory is left for a batch .*--shm-size"),
        prefetched(batches_of(), workers=1, pin=False, ahead=False) as feed,
    ):
        next(iter(feed))


def test_workers_leave_the_random_numbers_of_the_training_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with prefetched(batches_of(), workers=1, pin=False, ahead=False) as feed:
        next(iter(feed))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("no_orphans")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_ends_with_the_sentence_of_a_damaged_image(tmp_path: Path, workers: int) -> None:
    write_sources(tmp_path)
    path = tmp_path / "shards/web/00002.tar"
    path.write_bytes(path.read_bytes().replace(b"\xff\xd8\xff", b"<html>", 1))
    job = make_job(tmp_path, loader="shards", workers=workers)
    with pytest.raises(DataError, match=r"^the packed image real/axe/web6 cannot be decoded \(.*\)$") as caught:
        fit(job, out=tmp_path / "out", resume=tmp_path / "resume", about={})
    assert caught.value.argument == "data"  # from a worker process, too
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_orphans")
def test_a_stop_saves_the_state_and_leaves_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sources(tmp_path)
    whole = tmp_path / "whole"
    fit(make_job(tmp_path, loader="resident"), out=whole, resume=tmp_path / "r0", about={})
    ended = Session.on_train_batch_end

    def stopped(self: Session, *arguments: object) -> None:
        if self.step == 4:
            for process in [psutil.Process(), *children()]:
                os.kill(process.pid, signal.SIGTERM)  # as a batch system does
        ended(self, *arguments)

    job = make_job(tmp_path, loader="shards", workers=2)
    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="stopped after step 5 of 12"):
        patch.setattr(Session, "on_train_batch_end", stopped)
        fit(job, out=tmp_path / "cut", resume=tmp_path / "r1", about={})
    assert not children()
    fit(make_job(tmp_path, loader="cache"), out=tmp_path / "cut", resume=tmp_path / "r1", about={})
    name = "model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (whole / name).read_bytes()
