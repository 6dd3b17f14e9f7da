"""Parquet tables, written whole or not at all, with a place for JSON beside the columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file

METADATA = "domix"  # the key of the file's metadata that holds our JSON


def write_table(path: Path, frame: pd.DataFrame, metadata: dict[str, Any] | None = None) -> None:
    """Write `frame` without its row names as a parquet file; `metadata` goes into the file's key `domix` as JSON.

    Equal input gives equal bytes: nothing of the time or the machine is written.

    Raises:
        DomixError: the file cannot be written.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(
        None if metadata is None else {METADATA: json.dumps(metadata, ensure_ascii=False, sort_keys=True)}
    )
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a parquet file, or only `columns` of it.

    Raises:
        DataError: the file is missing, damaged, or lacks a column.
    """
    return _read(path, columns).to_pandas()


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the JSON that `write_table` put into the file's metadata.

    Raises:
        DataError: the file is missing or damaged, or holds no such metadata.
    """
    raw = (open_table(path).schema_arrow.metadata or {}).get(METADATA.encode())
    if raw is None:
        raise DataError(
            f"{path} holds no '{METADATA}' metadata, so Domix did not write it: delete it and run dvc repro"
        )
    return json.loads(raw)


def open_table(path: Path) -> pq.ParquetFile:
    """Open a parquet file without reading its rows.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run the stage that makes it (dvc repro)") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file ({error}): delete it and run dvc repro") from error


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    file = open_table(path)
    missing = [name for name in columns or [] if name not in file.schema_arrow.names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}: delete it and run dvc repro")
    try:
        return file.read(columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it and run dvc repro") from error


@dataclass(frozen=True)
class Column:
    """One column of a table; `dtype` is str, bool, int, float, or object for lists."""

    name: str
    dtype: str
    meaning: str


@dataclass(frozen=True)
class TableSchema:
    """A table as it is declared: its columns, what they mean, and who writes it where."""

    name: str
    columns: Sequence[Column]
    meaning: str
    path: str = ""
    written_by: str = ""

    def write(self, frame: pd.DataFrame, path: Path, **metadata: Any) -> None:
        """Check a frame and write it.

        Raises:
            DataError: a column is missing, mistyped or not declared.
        """
        self.check(frame, str(path))
        write_table(path, frame[[column.name for column in self.columns]], metadata or None)

    def read(self, path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read the table, or some of its columns.

        Raises:
            DataError: the file is missing or damaged, or a column is missing or mistyped.
        """
        wanted = [column for column in self.columns if columns is None or column.name in columns]
        frame = read_table(path, [column.name for column in wanted])
        TableSchema(self.name, wanted, self.meaning).check(frame, str(path))
        return frame

    def check(self, frame: pd.DataFrame, where: str) -> None:
        """Raise DataError unless a frame has the declared columns."""
        for column in self.columns:
            if column.name not in frame:
                raise DataError(f"{where} has no column {column.name!r}, which the table {self.name} declares")
            if len(frame) and not _FITS[column.dtype](frame[column.name]):
                found = frame[column.name].dtype
                raise DataError(f"{where}: the column {column.name!r} of {self.name} is {found}, not {column.dtype}")


_FITS = {
    "str": lambda values: pd.api.types.is_string_dtype(values) or values.isna().all() or values.dtype == object,
    "bool": pd.api.types.is_bool_dtype,
    "int": lambda values: pd.api.types.is_numeric_dtype(values) and bool((values.dropna() % 1 == 0).all()),
    "float": pd.api.types.is_float_dtype,
    "object": lambda values: True,
}
