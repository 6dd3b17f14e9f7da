"""Parquet tables, written whole or not at all, with a place for JSON beside the columns.

A table that one part of Domix writes and another reads is declared once, beside its writer, as a `TableSchema`: writer
and readers check against the declaration, docs/architecture.md is generated from it.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from domix.runtime.errors import DataError
from domix.runtime.files import atomic_file, read_text

if TYPE_CHECKING:  # pandas and Arrow take most of a second to import, and declarations are read by all that start
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

# What pandas.read_csv takes for a missing value, quoted or not: words that may be names.
MISSING = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"}
    | {"NULL", "NaN", "None", "n/a", "nan", "null"}
)
METADATA = "domix"  # the key of the file's metadata that holds our JSON
Dtype = Literal["int64", "float64", "float32", "bool", "str", "list[str]"]


@dataclass(frozen=True)
class Column:
    """One column: its type, and what its values mean, in words that the documentation shows."""

    name: str
    dtype: Dtype
    meaning: str


@dataclass(frozen=True)
class TableSchema:
    """What a table holds: the columns in their order, what a row is (`meaning`), where it lies and who writes it."""

    name: str
    columns: tuple[Column, ...]
    meaning: str
    path: str = ""  # below the repository's root, `<...>` for what varies
    written_by: str = ""  # the stage

    def __post_init__(self) -> None:
        """Raise ValueError on a column that is declared twice, or of an unknown type."""
        for position, column in enumerate(self.columns):
            if column.name in self.names[:position]:
                raise ValueError(f"the table {self.name} declares the column {column.name!r} twice")
            if column.dtype not in get_args(Dtype):
                raise ValueError(f"column {column.name!r} of the table {self.name}: no type {column.dtype!r}")

    @property
    def names(self) -> list[str]:
        """The columns' names, in order."""
        return [column.name for column in self.columns]

    @property
    def arrow(self) -> pa.Schema:
        """The table's types for a writer that streams Arrow tables, whose text is plain `string`."""
        import pyarrow as pa

        return pa.schema([(c.name, pa.string() if c.dtype == "str" else _arrow_type(c.dtype)) for c in self.columns])

    def empty(self) -> pd.DataFrame:
        """Return the table without rows, its columns of their types."""
        import pandas as pd

        dtypes = {c.name: "object" if c.dtype == "list[str]" else c.dtype for c in self.columns}
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()})

    def check(self, frame: pd.DataFrame, where: Path | str) -> None:
        """Check that a frame has just the declared columns, in any order, each of its type.

        Raises:
            DataError: it has not; the sentence names `where` and the first column that is amiss.
        """
        self._arrow(frame, where)

    def write(self, frame: pd.DataFrame, path: Path, **metadata: Any) -> None:
        """Write the table as `write_table` does, its columns in the declared order, if it is what was declared.

        Raises:
            DataError: it is not.
            DomixError: the file cannot be written.
        """
        _write(path, self._arrow(frame, path), metadata or None)

    def read(self, path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read the declared columns, or some of them; other columns of the file are left alone.

        Raises:
            DataError: the file is missing or damaged, or lacks one of these columns, or has it of another type.
        """
        asked = self.names if columns is None else list(columns)
        self._check_types(open_table(path).schema_arrow, asked, path)
        return self._typed(_read(path, asked)).to_pandas()

    def _arrow(self, frame: pd.DataFrame, where: Path | str) -> pa.Table:
        import pyarrow as pa

        further = [str(name) for name in frame.columns if name not in self.names]
        if further:
            raise DataError(f"{where} has a column {further[0]!r} that the table {self.name} does not declare")
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            raise DataError(self._lacks(where, missing[0]))
        try:
            table = self._typed(pa.Table.from_pandas(frame[self.names], preserve_index=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"{where}: a column of the table {self.name} mixes types ({error.args[-1]})") from error
        self._check_types(table.schema, self.names, where)
        return table

    def _typed(self, table: pa.Table) -> pa.Table:
        """Give columns without any value, which have no type of their own, the declared one."""
        import pyarrow as pa

        dtypes = {column.name: _arrow_type(column.dtype) for column in self.columns}
        fields = [
            field.with_type(dtypes[field.name]) if pa.types.is_null(field.type) else field for field in table.schema
        ]
        return table.cast(pa.schema(fields)) if fields != list(table.schema) else table

    def _check_types(self, schema: pa.Schema, asked: Sequence[str], where: Path | str) -> None:
        import pyarrow as pa

        declared = {column.name: column for column in self.columns}
        for name in asked:
            column = declared[name]
            if name not in schema.names:
                raise DataError(self._lacks(where, name))
            found = schema.field(name).type
            if not (pa.types.is_null(found) or _is(found, column.dtype)):
                raise DataError(
                    f"{where} has a column {name!r} of type {found}, where the table {self.name} has {column.dtype}"
                    f" ({column.meaning}){self._origin}"
                )

    def _lacks(self, where: Path | str, name: str) -> str:
        meaning = next(column.meaning for column in self.columns if column.name == name)
        return f"{where} has no column {name!r} ({meaning}), which the table {self.name} must have{self._origin}"

    @property
    def _origin(self) -> str:
        return f": have {self.written_by} write it again" if self.written_by else ""


def _arrow_type(dtype: Dtype) -> pa.DataType:
    """Return what a column without values is stored as."""
    import pyarrow as pa

    return {
        "int64": pa.int64(),
        "float64": pa.float64(),
        "float32": pa.float32(),
        "bool": pa.bool_(),
        "str": pa.large_string(),
        "list[str]": pa.list_(pa.string()),
    }[dtype]


def _is(found: pa.DataType, dtype: Dtype) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(found):
        return _is(found.value_type, dtype)
    if pa.types.is_list(found):
        return dtype == "list[str]" and (pa.types.is_null(found.value_type) or _is(found.value_type, "str"))
    if dtype == "str":
        return pa.types.is_string(found) or pa.types.is_large_string(found)
    return found == _arrow_type(dtype)


def write_table(path: Path, frame: pd.DataFrame, metadata: dict[str, Any] | None = None) -> None:
    """Write `frame` without its row names as a parquet file; `metadata` goes into the file's key `domix` as JSON.

    Equal input gives equal bytes: nothing of the time or the machine is written.

    Raises:
        DomixError: the file cannot be written.
    """
    import pyarrow as pa

    _write(path, pa.Table.from_pandas(frame, preserve_index=False), metadata)


def _write(path: Path, table: pa.Table, metadata: dict[str, Any] | None) -> None:
    import pyarrow.parquet as pq

    text = None if metadata is None else {METADATA: json.dumps(metadata, ensure_ascii=False, sort_keys=True)}
    with atomic_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(text), temporary)


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
        raise DataError(f"{path} holds no '{METADATA}' metadata, so Domix did not write it", remake=path)
    return json.loads(raw)


def read_csv(path: Path, *, mend: str) -> pd.DataFrame:
    """Read a CSV file, of anybody's, as texts without blanks at their ends: a model may be called NA, None or 001.

    Args:
        path: the file.
        mend: what is to be done where it cannot be read; ends the sentence.

    Raises:
        DataError: it is missing, or no CSV.
    """
    import pandas as pd

    text = io.StringIO(read_text(path, mend=mend, line_ends=False), newline="")
    try:
        frame = pd.read_csv(text, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} is not a readable CSV file ({' '.join(str(error).split())}): {mend}") from error
    return frame.rename(columns=str.strip).map(str.strip)


def as_csv(frame: pd.DataFrame) -> str:
    """Return a frame without its row names as CSV that pandas reads back equal, whatever its texts hold.

    A reader that goes by pandas' defaults takes names such as NA for missing: `keep_default_na=False` keeps them.
    """
    text = frame.to_csv(index=False, lineterminator="\n")
    if "\r" in text:  # which the module csv puts into quotes only where all texts are
        return frame.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    return text


def numbers(texts: pd.DataFrame) -> pd.DataFrame:
    """Turn columns of texts into float64; words for a missing value, which are no names here, into NaN.

    Raises:
        ValueError: something is no number.
    """
    return texts.mask(texts.isin(list(MISSING))).astype("float64")


def open_table(path: Path) -> pq.ParquetFile:
    """Open a parquet file without reading its rows.

    Raises:
        DataError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing", remake=path) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file ({error})", remake=path) from error


def _read(path: Path, columns: list[str] | None) -> pa.Table:
    import pyarrow as pa

    file = open_table(path)
    missing = [name for name in columns or [] if name not in file.schema_arrow.names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}", remake=path)
    try:
        return file.read(columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is damaged ({error})", remake=path) from error
