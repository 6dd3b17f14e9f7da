"""Packing: decode every picture once, reject the bad, resize, and write shards and the index.

Pictures are decoded by a pool of processes in small batches and written in the order in which the source gives them, so
that the bytes do not depend on the number of processes. Only a few batches are in memory at a time.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from domix.data import images
from domix.data.shards import Block, ShardWriter, make_block
from domix.data.sources import RawSample
from domix.runtime.errors import DataError
from domix.runtime.files import explain, write_json
from domix.runtime.seeds import numpy_generator

BATCH = 64  # samples a process works on at a time
AHEAD = 3  # batches that wait for each process
EXAMPLES = 5  # rejected keys that are kept for each reason
STATS = "stats.json"

log = logging.getLogger(__name__)


class Packed(NamedTuple):
    """A sample ready to be written: its tar block and its row of the index without the place."""

    block: Block
    row: dict[str, Any]


class Rejected(NamedTuple):
    """A sample whose picture is bad."""

    key: str
    reason: str


@dataclass
class PackStats:
    """What became of a source's pictures."""

    source: str
    read: int = 0
    packed: int = 0
    rejected: dict[str, dict[str, Any]] = field(default_factory=dict)
    """reason -> count, examples (keys)"""

    def reject(self, bad: Rejected) -> None:
        """Count a bad picture, and keep its key if it is among the first of its reason."""
        entry = self.rejected.setdefault(bad.reason, {"count": 0, "examples": []})
        entry["count"] += 1
        if len(entry["examples"]) < EXAMPLES:
            entry["examples"].append(bad.key)


def pack(
    source: str,
    samples: Iterable[RawSample],
    out: Path,
    *,
    size: int,
    shard_mb: int,
    max_bad_share: float,
    workers: int,
    seed: int,
    progress: Callable[[int], object] | None = None,
) -> PackStats:
    """Pack samples into the empty folder `out`: `NNNNN.tar`, index.parquet, stats.json.

    Args:
        source: name for the index's column `source`.
        size: short side in pixels; smaller pictures stay as they are.
        shard_mb: size of a shard in megabytes.
        max_bad_share: share of bad pictures above which packing fails.
        workers: processes that decode; 0: one a core; 1: this process.
        seed: seed of the poses.
        progress: called with the number of samples that were dealt with since the last call.

    Raises:
        DataError: too many bad pictures, none that is good, or two samples with one key.
        DomixError: the disk is full, or the folder may not be written.
    """
    from domix.data.index import make_index, write_index  # here: worker processes need no pandas

    stats = PackStats(source)
    rows: list[dict[str, Any]] = []
    keys: set[str] = set()
    with explain(out), ShardWriter(out, limit=shard_mb * 1_000_000) as writer:
        for result in _results(samples, size=size, seed=seed, workers=workers):
            stats.read += 1
            if isinstance(result, Rejected):
                stats.reject(result)
            else:
                if result.row["key"] in keys:
                    raise DataError(f"the source {source} has two samples named {result.row['key']}: rename one")
                keys.add(result.row["key"])
                rows.append(result.row | {"source": source} | writer.add(result.block)._asdict())
            if progress is not None:
                progress(1)
    stats.packed = len(rows)
    _judge(stats, max_bad_share)
    with explain(out):
        write_index(out, make_index(rows))
    write_json(out / STATS, asdict(stats))
    return stats


def _judge(stats: PackStats, max_bad_share: float) -> None:
    """Fail if too many pictures are bad, else mention them."""
    bad = stats.read - stats.packed
    if stats.read == 0:
        raise DataError(f"the source {stats.source} has no samples: fetch it anew")
    if bad == 0:
        return
    reasons = "; ".join(f"{e['count']} {reason} ({', '.join(e['examples'])})" for reason, e in stats.rejected.items())
    if bad / stats.read > max_bad_share or stats.packed == 0:
        raise DataError(
            f"{bad} of {stats.read} pictures of {stats.source} are bad, more than pack.max_bad_share {max_bad_share:g}:"
            f" {reasons}: fetch the source anew, or raise pack.max_bad_share"
        )
    log.warning("left out %d of %d pictures of %s: %s", bad, stats.read, stats.source, reasons)


def _results(samples: Iterable[RawSample], *, size: int, seed: int, workers: int) -> Iterator[Packed | Rejected]:
    """Yield the samples' results in the order of the samples."""
    count = workers or os.cpu_count() or 1
    batches = _batches(samples)
    if count == 1:
        for batch in batches:
            yield from process_batch(batch, size, seed)
        return
    # Not fork: it copies locks that other threads of this process (pyarrow's, say) may hold.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    pool = ProcessPoolExecutor(count, mp_context=context)
    try:
        for future in _submit(pool, batches, ahead=AHEAD * count, size=size, seed=seed):
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(samples: Iterable[RawSample]) -> Iterator[list[RawSample]]:
    iterator = iter(samples)
    while batch := list(itertools.islice(iterator, BATCH)):
        yield batch


def _submit(
    pool: Executor, batches: Iterator[list[RawSample]], *, ahead: int, size: int, seed: int
) -> Iterator[Future[list[Packed | Rejected]]]:
    """Keep at most `ahead` batches in the pool, and yield their futures in order."""
    waiting: deque[Future[list[Packed | Rejected]]] = deque()
    for batch in batches:
        waiting.append(pool.submit(process_batch, batch, size, seed))
        if len(waiting) >= ahead:
            yield waiting.popleft()
    yield from waiting


def process_batch(batch: list[RawSample], size: int, seed: int) -> list[Packed | Rejected]:
    """Make every sample of a batch ready to be written, or say why it cannot be: pure, in any process."""
    return [process_sample(sample, size, seed) for sample in batch]


def process_sample(sample: RawSample, size: int, seed: int) -> Packed | Rejected:
    """Decode, pose, resize and encode one sample."""
    try:
        picture = images.decode(sample.data)
    except images.BadPicture as bad:
        return Rejected(sample.key, bad.reason)
    if sample.pose:
        picture = images.pose(picture, numpy_generator(seed, sample.drawing, sample.pose))
    picture = images.resize_short(picture, size)
    row = {
        "key": sample.key,
        "domain": sample.domain,
        "class": sample.class_name,
        "label": sample.label,
        "split": sample.split,
        "width": picture.width,
        "height": picture.height,
        "sha256": hashlib.sha256(sample.data).hexdigest(),
        "phash": images.phash(picture),
    }
    return Packed(make_block(sample.key, "png", images.encode(picture), row), row)
