"""The index of a packed source: one row a sample, checked against its shards when it is read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from domix.runtime.errors import DataError
from domix.runtime.tables import read_table, write_table

INDEX = "index.parquet"

COLUMNS = {
    "row": "int64",
    "key": "str",
    "source": "str",
    "domain": "str",
    "class": "str",
    "label": "int64",
    "split": "str",
    "shard": "str",
    "offset": "int64",
    "size": "int64",
    "width": "int64",
    "height": "int64",
    "sha256": "str",
    "phash": "str",
}


def make_index(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Build the index from one dictionary a sample, in order; `row` is added."""
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "row"])
    frame.insert(0, "row", range(len(frame)))
    return frame.astype(COLUMNS)


def write_index(folder: Path, index: pd.DataFrame) -> None:
    """Write the index into a folder of shards."""
    write_table(folder / INDEX, index)


def read_index(folder: Path) -> pd.DataFrame:
    """Read the index of a packed source, with `row` 0 .. N - 1 in order.

    Raises:
        DataError: the index is missing, damaged or of another schema, or a shard is missing or shorter than it says.
    """
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{path} is missing: run dvc repro pack")
    index = read_table(path)
    _check_columns(path, index)
    if not (index["row"].to_numpy() == range(len(index))).all() or index["key"].duplicated().any():
        raise DataError(f"{path} has rows out of order or keys that are not unique: delete it and run dvc repro pack")
    _check_shards(folder, index)
    return index


def _check_columns(path: Path, index: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in index]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: delete it and run dvc repro pack")
    wrong = [name for name, kind in COLUMNS.items() if str(index[name].dtype) != kind]
    if wrong:
        kinds = ", ".join(f"{name} is {index[name].dtype} and must be {COLUMNS[name]}" for name in wrong)
        raise DataError(f"{path}: {kinds}; delete it and run dvc repro pack")


def _check_shards(folder: Path, index: pd.DataFrame) -> None:
    ends = (index["offset"] + index["size"]).groupby(index["shard"]).max()
    for shard, end in ends.items():
        path = folder / str(shard)
        if not path.is_file():
            raise DataError(
                f"the shard {path} is missing, which {folder / INDEX} names: run dvc checkout or dvc repro pack"
            )
        if path.stat().st_size < end:
            raise DataError(f"the shard {path} is cut short: delete it and run dvc checkout or dvc repro pack")
