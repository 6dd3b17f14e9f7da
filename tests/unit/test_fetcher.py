"""Shards fetched ahead: those that the training needs, in its order, a few at a time, deleted behind it."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from domix.data.loading import fetcher
from domix.data.loading.fetcher import Need, Progress, filled, needs
from domix.data.loading.loader import Batch, Batches
from domix.data.loading.object_store import copy
from domix.data.loading.packed_images import PackedImages
from domix.data.loading.prefetch import prefetched
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.retry import RetryPolicy
from domix.train.fit import fit
from tests.packed_sources import KINDS, batches_of, equal, images_from, make_job, write_sources

HASTY = RetryPolicy(attempts=2, first_wait=0.01, longest_wait=0.01)
SHARDS = 10  # of both sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sources(tmp_path)
    return tmp_path


def urls(root: Path) -> dict[str, str]:
    return {source: f"file://{root}/shards/{source}/" for source in KINDS}


def streamed(root: Path, **named: Any) -> Batches:
    return batches_of(root, images_from(root, "stream", shards=urls(root)), **named)


@contextmanager
def served(batches: Batches, *, workers: int = 0, processes: int = 1) -> Iterator[Iterator[Batch]]:
    images = batches.images
    assert isinstance(images, PackedImages)
    assert images.spool is not None
    progress = Progress(images.spool, 0, batches.start)
    with (
        prefetched(batches, workers=workers, pin=False, ahead=True, tell=progress) as source,
        filled(images.spool, batches, progress, "run", processes=processes, patience=HASTY),
    ):
        yield iter(source)


def kept(root: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in (root / "spool/run").glob("*/*.tar")}


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the shards that are fetched, by and by."""
    found: list[str] = []

    def watched(url: str, target: Path, **named: Any) -> None:
        copy(url, target, **named)
        found.append("/".join(url.split("/")[-2:]))

    monkeypatch.setattr(fetcher, "copy", watched)
    return found


@pytest.mark.parametrize("named", [{}, {"start": 4}, {"start": 3, "total": 4}, {"drop_last": True}, {"batch": 23}])
@pytest.mark.parametrize("window", [1, 3])
def test_needs_are_what_the_batches_read(root: Path, window: int, named: dict[str, Any]) -> None:
    batches = batches_of(root, images_from(root, "resident"), window=window, **named)
    assert batches.order.shards is not None
    expected: dict[tuple[int, int], list[int]] = {}
    for step in range(batches.start, batches.total):
        for place, row in enumerate(batches.rows(step).tolist()):
            epoch = (step * batches.batch + place) // batches.length
            expected.setdefault((epoch, int(batches.order.shards[row])), []).append(step)
    found = list(needs(batches))
    assert sorted(found) == sorted(Need(min(steps), max(steps), shard) for (_, shard), steps in expected.items())
    assert [need.first for need in found] == sorted(need.first for need in found)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("window", "bound"), [(2, 4), (3, 6)])
def test_the_spool_is_bounded_and_gone_at_the_end(root: Path, workers: int, window: int, bound: int) -> None:
    most = 0
    with served(streamed(root, window=window, batch=2, total=30), workers=workers) as coming:
        for _ in coming:
            time.sleep(0.01)
            most = max(most, len(kept(root)))
    assert 2 <= most <= bound
    assert not (root / "spool/run").exists()


def test_shards_are_fetched_in_the_order_of_their_use_and_each_once_an_epoch(root: Path, copied: list[str]) -> None:
    batches = streamed(root, window=1, batch=8, total=3)  # an epoch
    spool = batches.images.spool
    with served(batches) as coming:
        assert len(list(coming)) == 3
    names = [f"{spool.shards[need.shard].source}/{spool.shards[need.shard].name}" for need in needs(batches)]
    assert copied == names
    assert len(set(names)) == SHARDS


def test_what_all_fits_is_fetched_once(root: Path, copied: list[str]) -> None:
    with served(streamed(root, window=5, total=12)) as coming:
        assert len(list(coming)) == 12
    assert len(copied) == SHARDS


def test_a_resumed_training_begins_in_its_window_and_uses_what_is_there(root: Path, copied: list[str]) -> None:
    with served(streamed(root, batch=4, total=20)) as coming:
        for _ in range(3):
            next(coming)
    left = kept(root)
    assert left
    (root / "spool/run/web/.00001.tar.tmp-1-abc").write_bytes(b"half")
    (root / "spool/run/failed").write_text("an earlier trouble")
    before = list(copied)
    reference = batches_of(root, images_from(root, "resident"), batch=4, total=20, start=3)
    batches = streamed(root, batch=4, total=20, start=3)
    with served(batches) as coming:
        first = next(coming)
        assert equal(first, reference.make(3))
        needed = {shard for need in needs(batches) for shard in [need.shard] if need.first == 3}
        names = {f"{batches.images.spool.shards[n].source}/{batches.images.spool.shards[n].name}" for n in needed}
        assert not set(copied[len(before) :]) & left & names
        assert all(equal(one, reference.make(one.step)) for one in coming)
    assert not (root / "spool/run").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_vanishes_ends_the_training_in_a_sentence(root: Path, workers: int) -> None:
    batches = streamed(root, total=12)
    (root / "shards/web/00003.tar").unlink()
    with (
        pytest.raises(DataError, match=r"^the shard file://.*/web/00003\.tar is missing: copy it there"),
        served(batches, workers=workers) as coming,
    ):
        list(coming)


def test_a_shard_that_is_cut_short_is_refused(root: Path) -> None:
    batches = streamed(root, total=12)
    path = root / "shards/draw/00002.tar"
    path.write_bytes(path.read_bytes()[:600])
    with (
        pytest.raises(DataError, match=r"00002\.tar has 600 bytes, and the index says at least"),
        served(batches) as coming,
    ):
        list(coming)


def test_a_shard_is_kept_until_the_last_process_has_read_it(root: Path) -> None:
    batches = streamed(root, window=1, batch=2, total=24)
    spool = batches.images.spool
    with served(batches, processes=2) as coming:
        for batch in coming:
            time.sleep(0.05)  # in which a shard may be deleted
            waiting = [need for need in needs(batches) if need.first <= batch.step <= need.last]
            assert {f"{spool.shards[n.shard].source}/{spool.shards[n.shard].name}" for n in waiting} <= kept(root)
            spool.mark(1, batch.step)


def test_ending_early_waits_for_no_server(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()

    def away(url: str, target: Path, *, stopped: threading.Event, **named: Any) -> None:
        waiting.set()
        assert stopped.wait(60)

    monkeypatch.setattr(fetcher, "copy", away)
    for workers in (0, 2):
        with served(streamed(root), workers=workers):
            assert waiting.wait(60)
    assert (root / "spool/run").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shards": {}}, r"^trainer\.loader is stream, but trainer\.shards names no source"),
        ({"shards": {"web": "pipe:cat x"}}, r"^'pipe:cat x' cannot be read: give an s3:// or a file"),
        ({"shards": {"web": "https://host/x"}}, r"'https://host/x' cannot be read"),
        ({"shards": {"web": "simplecache::s3://x"}}, "cannot be read"),
    ],
)
def test_what_cannot_be_streamed_is_refused(root: Path, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        images_from(root, "stream", **changes)


def test_streaming_needs_windows(root: Path, tmp_path: Path) -> None:
    job = make_job(root, loader="stream", shards=urls(root), window=None)
    with pytest.raises(ParameterError, match=r"set train\.window to a number of shards$"):
        fit(job, out=tmp_path / "out", resume=tmp_path / "resume", about={})


def test_the_shards_need_not_lie_beside_the_index(root: Path) -> None:
    reference = batches_of(root, images_from(root, "resident"))
    for source in KINDS:
        (root / "elsewhere" / source).mkdir(parents=True)
        for path in (root / "shards" / source).glob("*.tar"):
            path.rename(root / "elsewhere" / source / path.name)
    elsewhere = {source: f"file:{root}/elsewhere/{source}" for source in KINDS}
    batches = batches_of(root, images_from(root, "stream", shards=elsewhere))
    with served(batches) as coming:
        assert all(equal(one, other) for one, other in zip(coming, reference, strict=True))
    with pytest.raises(DataError, match=r"the shard .* is missing"):
        images_from(root, "shards")


def test_a_full_disk_is_told_in_a_sentence(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    full_disk = pytest.raises(DataError, match=r"^no space left to write .*/spool/run/.*\.tar: free")
    with full_disk, served(streamed(root)) as coming:
        list(coming)
