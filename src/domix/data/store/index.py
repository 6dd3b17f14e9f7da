"""The index of a packed source: one row a sample, and where each image lies.

index.parquet   the samples, in order; read whole or a few columns of it
places.npy      shard number, size and offset of each, memory-mapped: opened at once whatever its length, and shared by
                all processes that read it
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pandas.util import hash_array

from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file, sha256_file
from domix.runtime.tables import METADATA, Column, TableSchema, open_table

INDEX, PLACES = "index.parquet", "places.npy"
GROUP = 1 << 17  # rows that are written at a time

ROWS = TableSchema(
    "index",
    (
        Column("row", "int64", "the sample's place, from 0"),
        Column("key", "str", "its name in the shard, unique in the source"),
        Column("source", "str", "name of the source"),
        Column("domain", "str", "visual style; of a source of one style its own name"),
        Column("class", "str", "object category; null: none"),
        Column("label", "int64", "number of the class in label order; -1: none"),
        Column("split", "str", "`train` or `test`"),
        Column("shard", "str", "file name of the shard that holds the image"),
        Column("offset", "int64", "first byte of the image file in the shard"),
        Column("size", "int64", "bytes of it"),
        Column("width", "int64", "pixels of the packed image"),
        Column("height", "int64", "pixels of the packed image"),
        Column("sha256", "str", "of the original file's bytes"),
        Column("phash", "str", "perceptual hash, 16 hex digits"),
    ),
    "the samples of a packed source",
    path="artifacts/shards/<source>/index.parquet",
    written_by="pack",
)
COLUMNS = {column.name: column.dtype for column in ROWS.columns}
SCHEMA = ROWS.arrow
PLACE = np.dtype([("shard", "<u4"), ("size", "<u4"), ("offset", "<u8")])


def write_rows(folder: Path, tables: Iterable[pa.Table], shards: Mapping[str, str | None] | None = None) -> int:
    """Write an index from tables of consecutive samples (all columns of SCHEMA but `row`), and return their number.

    Takes a few tables' memory, and 24 bytes a row.

    Args:
        folder: of the packed source.
        tables: the samples.
        shards: SHA-256 by shard, None of one that holds nothing. They go into the file's metadata, so that the index's
            own digest (`digest_of_source`) tells of the images, too.

    Raises:
        DataError: two samples have one key.
    """
    places: list[np.ndarray] = [np.zeros(0, PLACE)]
    hashes: list[np.ndarray] = [np.zeros(0, np.uint64)]
    count = 0
    with atomic_file(folder / INDEX) as temporary:
        schema = SCHEMA.with_metadata({METADATA: json.dumps({"shards": dict(shards or {})})})
        with pq.ParquetWriter(temporary, schema) as writer:
            for table in _grouped(tables):
                number = pa.array(np.arange(count, count + len(table)))
                columns = [table[name].combine_chunks() for name in SCHEMA.names[1:]]
                writer.write_table(pa.table([number, *columns], schema=schema))
                places.append(_places(table))
                keys = table["key"].to_pandas().to_numpy(dtype=object)
                hashes.append(hash_array(keys, categorize=False))  # ty: ignore[not-callable] (pandas types it late)
                count += len(table)
        _require_unique(temporary, np.concatenate(hashes))
    with atomic_file(folder / PLACES) as temporary, open(temporary, "wb") as file:
        np.save(file, np.concatenate(places))
    return count


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join tables to ones of at least GROUP rows: many small row groups are slow to read."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= GROUP:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _places(table: pa.Table) -> np.ndarray:
    places: np.ndarray = np.empty(len(table), PLACE)
    places["shard"] = _shard_numbers(table["shard"])
    for name in ("size", "offset"):
        places[name] = table[name].to_numpy()
    return places


def _require_unique(path: Path, hashes: np.ndarray) -> None:
    """Refuse two samples of one key; the keys are only read if two of their 64-bit hashes are equal."""
    hashes.sort()
    if (hashes[1:] == hashes[:-1]).any():
        keys = pq.read_table(path, columns=["key"])["key"].to_pandas()
        twice = keys[keys.duplicated()]
        if not twice.empty:
            raise DataError(
                f"{len(twice)} keys stand twice, {twice.iloc[0]!r} among them: rename one image of each pair"
            )


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"{number:05d}.tar"


def shard_number(name: str) -> int:
    """Return the number in the file name of a shard."""
    return int(name.partition(".")[0])


def _shard_numbers(shards: pa.ChunkedArray) -> np.ndarray:
    """Return the numbers in the names of shards, int64 [N]."""
    encoded = shards.combine_chunks().dictionary_encode()
    numbers = np.array([shard_number(str(name)) for name in encoded.dictionary], dtype=np.int64)
    return numbers[encoded.indices.to_numpy()] if len(numbers) else np.zeros(0, np.int64)


def make_index(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Build the index from one dictionary a sample, in order; `row` is added."""
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "row"])
    frame.insert(0, "row", range(len(frame)))
    return frame.astype(COLUMNS)


def write_index(folder: Path, index: pd.DataFrame) -> None:
    """Write a whole index, whose `row` must count from 0, into a folder of shards.

    Raises:
        DataError: two samples have one key.
    """
    write_rows(folder, [pa.Table.from_pandas(index[list(COLUMNS)], SCHEMA, preserve_index=False)])


def digest_of_source(folder: Path) -> str:
    """Return what identifies a packed source: SHA-256 of its index, which names its shards' digests.

    Raises:
        DataError: the index is missing.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{path} is missing", remake=path)
    return sha256_file(path)


def open_places(folder: Path, *, shards: bool = True) -> np.ndarray:
    """Map the places of a packed source's images into memory, PLACE [N], after a check against shards and index.

    Args:
        folder: of the packed source.
        shards: they lie in the folder, too.

    Raises:
        DataError: the file is missing or does not fit the index, or a shard is missing or shorter than it says.
    """
    path = folder / PLACES
    try:
        places = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing", remake=path) from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is damaged ({error})", remake=path) from error
    rows = open_table(folder / INDEX).metadata.num_rows
    if places.dtype != PLACE or len(places) != rows:
        raise DataError(f"{path} does not fit {INDEX} ({len(places)} and {rows} rows)", remake=folder)
    if shards:
        _check_shards(folder, places)
    return places


def read_index(folder: Path, columns: Sequence[str] | None = None, *, shards: bool = True) -> pd.DataFrame:
    """Read the index of a packed source, or some columns of it: rows 0 .. N - 1 in order.

    Args:
        folder: of the packed source.
        columns: None: all.
        shards: they lie in the folder, too.

    Raises:
        DataError: the index is missing, damaged or of another schema, or a shard is missing or shorter than it says.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{path} is missing", remake=path)
    _check_columns(path, open_table(path).schema_arrow)
    open_places(folder, shards=shards)
    return ROWS.read(path, columns)


def _check_columns(path: Path, schema: pa.Schema) -> None:
    missing = [name for name in COLUMNS if name not in schema.names]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}", remake=path)
    wrong = [name for name in COLUMNS if not _same_kind(schema.field(name).type, SCHEMA.field(name).type)]
    if wrong:
        kinds = ", ".join(f"{n} is {schema.field(n).type} and must be {SCHEMA.field(n).type}" for n in wrong)
        raise DataError(f"{path}: {kinds}", remake=path)


def _same_kind(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Tell whether two types hold the same values: text has two layouts, by which library wrote it."""
    return found == wanted or (pa.types.is_large_string(found) and pa.types.is_string(wanted))


def _check_shards(folder: Path, places: np.ndarray) -> None:
    shards = places["shard"]
    starts = np.flatnonzero(np.r_[True, shards[1:] != shards[:-1]]) if len(shards) else np.zeros(0, np.int64)
    ends = np.maximum.reduceat(places["offset"] + places["size"], starts) if len(starts) else starts
    for number, end in zip(shards[starts].tolist(), ends.tolist(), strict=True):
        path = folder / shard_name(number)
        if not path.is_file():
            raise DataError(f"the shard {path} is missing, which {folder / INDEX} names", remake=path)
        if path.stat().st_size < end:
            raise DataError(f"the shard {path} is cut short", remake=path)
