"""Packing: decode every image once, reject the bad, resize, and write shards and the index.

The unit of work is one part of a source, which becomes one shard: a pure function of the part and the settings, so that
its bytes do not depend on which process of which machine does it (data/pack/drivers.py). Finished units stay in a
staging folder until the whole source is published: packing that was cut short goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from domix.data.sources.contract import Part, RawSample
from domix.data.store import images, texts
from domix.data.store.index import shard_name
from domix.data.store.shards import Block, ShardWriter, make_block
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file, explain, link_or_copy, read_json, write_json
from domix.runtime.seeds import numpy_generator

EXAMPLES = 5  # rejected keys that are kept for each reason
STATS, TEXTS = "stats.json", "texts.parquet"
DIGEST = b"shard_sha256"  # in the metadata of a unit's rows: of its shard

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """What decides about the bytes of a packed image.

    Attributes:
        source: name of the source.
        size: short side in pixels; smaller images stay as they are; 0: every file stays as it is, if any decoder
            reads it alike and nothing is cut off, else it becomes a PNG file of the same size.
        format: png | jpeg, of resized images.
        seed: seed of the poses.
    """

    source: str
    size: int
    format: str = "png"
    seed: int = 0


@dataclass(frozen=True)
class Unit:
    """One piece of work: a part of a source that becomes shard `number`."""

    number: int
    part: Part
    settings: Settings


class Packed(NamedTuple):
    """A sample ready to be written: its tar block and its row of the index without the place."""

    block: Block
    row: dict[str, Any]


class Rejected(NamedTuple):
    """A sample whose image is bad."""

    key: str
    reason: str


@dataclass
class PackStats:
    """What became of a source's images, or of a part of them."""

    source: str
    read: int = 0
    packed: int = 0
    rejected: dict[str, dict[str, Any]] = field(default_factory=dict)
    """reason -> count, examples (keys)"""

    def reject(self, reason: str, count: int, keys: Sequence[str]) -> None:
        """Count bad images, and keep the first keys of each reason."""
        entry = self.rejected.setdefault(reason, {"count": 0, "examples": []})
        entry["count"] += count
        entry["examples"] += keys[: EXAMPLES - len(entry["examples"])]

    def add(self, other: PackStats) -> None:
        """Add what became of a later part."""
        self.read += other.read
        self.packed += other.packed
        for reason, entry in other.rejected.items():
            self.reject(reason, entry["count"], entry["examples"])


Driver = Callable[[Sequence[Unit], Path], Iterator[PackStats]]
"""Does `pack_unit(unit, folder)` for all units, in any order and anywhere, and yields what it returns."""


def pack(
    settings: Settings,
    parts: Sequence[Part],
    out: Path,
    *,
    staging: Path,
    driver: Driver,
    max_bad_share: float,
    progress: Callable[[PackStats], object] | None = None,
) -> PackStats:
    """Pack the parts of a source into the empty folder `out`.

    Writes `NNNNN.tar` (one a part), index.parquet, places.npy, stats.json, and texts.parquet (`key`, `text`) for
    samples that bring captions.

    Args:
        settings: what decides about the bytes.
        parts: all parts, in index order.
        out: the folder.
        staging: where finished units are kept; units that lie there already are not done again. The caller names it
            after everything that defines them, and removes it when `out` is published.
        driver: does the units.
        max_bad_share: share of bad images above which packing fails.
        progress: called with what became of each unit, those found in `staging` included.

    Raises:
        DataError: too many bad images, none that is good, or two samples with one key.
        DomixError: the disk is full, or the folder may not be written.
    """
    from domix.data.store.index import write_rows  # here: worker processes need no pandas

    units = [Unit(number, part, settings) for number, part in enumerate(parts)]
    with explain(staging):
        staging.mkdir(parents=True, exist_ok=True)
    left = []
    for unit in units:
        if not _report(staging, unit.number).is_file():
            left.append(unit)
        elif progress is not None:
            progress(read_report(staging, unit.number))
    for result in driver(left, staging):
        if progress is not None:
            progress(result)
    stats = PackStats(settings.source)
    for unit in units:
        stats.add(read_report(staging, unit.number))
    _judge(stats, max_bad_share)
    with explain(out):
        for unit in units:
            name = shard_name(unit.number)
            if (staging / name).is_file():  # an empty part has no shard
                link_or_copy(staging / name, out / name)
        digests = {shard_name(unit.number): _shard_digest(staging, unit.number) for unit in units}
        write_rows(out, (_rows(staging, unit.number) for unit in units), digests)
        _write_texts(staging, units, out / TEXTS)
    write_json(out / STATS, asdict(stats))
    return stats


def _judge(stats: PackStats, max_bad_share: float) -> None:
    """Fail if too many images are bad, else mention them."""
    bad = stats.read - stats.packed
    if stats.read == 0:
        raise DataError(f"the source {stats.source} has no samples: complete its files")
    if bad == 0:
        return
    reasons = "; ".join(f"{e['count']} {reason} ({', '.join(e['examples'])})" for reason, e in stats.rejected.items())
    if bad / stats.read > max_bad_share or stats.packed == 0:
        raise DataError(
            f"{bad} of {stats.read} images of {stats.source} are bad, more than max_bad_share {max_bad_share:g}:"
            f" {reasons}: replace them, or raise max_bad_share",
            argument="max_bad_share",
        )
    log.warning("left out %d of %d images of %s: %s", bad, stats.read, stats.source, reasons)


def _rows(staging: Path, number: int) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(staging / f"{number:05d}.parquet")


def _shard_digest(staging: Path, number: int) -> str | None:
    import pyarrow.parquet as pq

    return (pq.read_schema(staging / f"{number:05d}.parquet").metadata or {}).get(DIGEST, b"").decode() or None


def _write_texts(staging: Path, units: Sequence[Unit], path: Path) -> None:
    """Collect the captions that samples brought; nothing is written if none did."""
    import pyarrow.parquet as pq

    files = [staging / f"{unit.number:05d}.parquet" for unit in units]
    brought = [file for file in files if "text" in pq.read_schema(file).names]
    if not brought:
        return
    with atomic_file(path) as temporary, pq.ParquetWriter(temporary, texts.TEXTS.arrow) as writer:
        for file in brought:
            writer.write_table(pq.read_table(file, columns=texts.TEXTS.names))


def _report(folder: Path, number: int) -> Path:
    """Return the file that is written last: where it lies, the unit is done."""
    return folder / f"{number:05d}.json"


def read_report(folder: Path, number: int) -> PackStats:
    """Read what became of a unit."""
    return PackStats(**read_json(_report(folder, number)))


def pack_unit(unit: Unit, folder: Path) -> PackStats:
    """Read, decode, pose, resize and encode the samples of a unit: pure, in any process.

    Writes `NNNNN.tar`, `NNNNN.parquet` (the rows) and, last, `NNNNN.json` (what became of the images) into `folder`.

    Raises:
        DataError: the part's files are damaged.
        DomixError: the disk is full, or the folder may not be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from domix.data.store.index import SCHEMA

    settings, stats = unit.settings, PackStats(unit.settings.source)
    rows: list[dict[str, Any]] = []
    shard = folder / shard_name(unit.number)
    with atomic_file(shard) as temporary, ShardWriter(temporary) as writer:
        for sample in unit.part.samples():
            stats.read += 1
            result = pack_sample(sample, settings)
            if isinstance(result, Rejected):
                stats.reject(result.reason, 1, [result.key])
            else:
                place = writer.add(result.block)._replace(shard=shard.name)
                rows.append({"source": settings.source, **result.row, **place._asdict()})
    stats.packed = len(rows)
    if not rows:
        shard.unlink()
    fields = [SCHEMA.field(name) for name in SCHEMA.names[1:]]
    if rows and "text" in rows[0]:
        fields.append(pa.field("text", pa.string()))
    with atomic_file(folder / f"{unit.number:05d}.parquet") as temporary:
        metadata = {DIGEST: writer.sha256} if rows else None
        pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields, metadata)), temporary)
    write_json(_report(folder, unit.number), asdict(stats))
    return stats


def pack_sample(sample: RawSample, settings: Settings) -> Packed | Rejected:
    """Decode, cut, pose, resize and encode one sample."""
    try:
        image = images.decode(sample.data)
        if sample.border:
            image = images.cut_border(image, sample.border)
    except images.BadImage as bad:
        return Rejected(sample.key, bad.reason)
    if sample.pose:
        image = images.pose(image, numpy_generator(settings.seed, sample.drawing, sample.pose))
    if settings.size:
        image = images.resize_short(image, settings.size)
    as_it_is = settings.size == 0 and not sample.pose and not sample.border
    kind = images.plain_kind(sample.data) if as_it_is else None
    row = {
        "key": sample.key,
        "domain": sample.domain,
        "class": sample.class_name,
        "label": sample.label,
        "split": sample.split,
        "width": image.width,
        "height": image.height,
        "sha256": hashlib.sha256(sample.data).hexdigest(),
        "phash": images.phash(image),
    }
    if sample.text is not None:
        row["text"] = sample.text
    if kind is not None:
        return Packed(make_block(sample.key, kind, sample.data, row), row)
    encoding = "png" if settings.size == 0 else settings.format
    data = images.encode(image, encoding)
    return Packed(make_block(sample.key, {"png": "png", "jpeg": "jpg"}[encoding], data, row), row)
