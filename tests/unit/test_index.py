"""The index: what it holds, and what is said about one that does not fit its shards."""

from __future__ import annotations

import pandas as pd
import pytest

from domix.data.index import COLUMNS, INDEX, make_index, read_index, write_index
from domix.data.shards import ShardWriter, make_block
from domix.runtime.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one shard of three samples and its index."""
    with ShardWriter(tmp_path, limit=10**6) as writer:
        rows = [
            {"key": f"real/axe/{i}", "source": "toy", "domain": "real", "class": "axe", "label": 0, "split": "train"}
            | writer.add(make_block(f"real/axe/{i}", "png", b"picture", {}))._asdict()
            | {"width": 4, "height": 4, "sha256": "0" * 64, "phash": "0" * 16}
            for i in range(3)
        ]
    write_index(tmp_path, make_index(rows))
    return tmp_path


def change(folder, edit) -> None:
    frame = pd.read_parquet(folder / INDEX)
    edit(frame).to_parquet(folder / INDEX, index=False)


def test_index_comes_back_as_written(folder):
    index = read_index(folder)
    assert {name: str(index[name].dtype) for name in index} == COLUMNS
    assert index["row"].tolist() == [0, 1, 2]
    assert index["key"].tolist() == ["real/axe/0", "real/axe/1", "real/axe/2"]


def test_missing_index(tmp_path):
    with pytest.raises(DataError, match=r"index\.parquet is missing: run dvc repro pack"):
        read_index(tmp_path)


def test_damaged_index(folder):
    (folder / INDEX).write_bytes((folder / INDEX).read_bytes()[:100])
    with pytest.raises(DataError, match="not a readable parquet file"):
        read_index(folder)


def test_missing_column(folder):
    change(folder, lambda frame: frame.drop(columns=["offset", "phash"]))
    with pytest.raises(DataError, match="no column offset, phash"):
        read_index(folder)


def test_column_of_a_wrong_type(folder):
    change(folder, lambda frame: frame.astype({"label": "float64"}))
    with pytest.raises(DataError, match="label is float64 and must be int64"):
        read_index(folder)


@pytest.mark.parametrize("edit", [lambda f: f.iloc[::-1], lambda f: f.assign(key="same")])
def test_rows_out_of_order_and_doubled_keys(folder, edit):
    change(folder, edit)
    with pytest.raises(DataError, match="out of order or keys that are not unique"):
        read_index(folder)


def test_missing_shard(folder):
    (folder / "00000.tar").unlink()
    with pytest.raises(DataError, match=r"00000\.tar is missing"):
        read_index(folder)


def test_shard_cut_short(folder):
    data = (folder / "00000.tar").read_bytes()
    (folder / "00000.tar").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"00000\.tar is cut short"):
        read_index(folder)
