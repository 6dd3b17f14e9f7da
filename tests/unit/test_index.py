"""The index: what it holds, and what is said about one that does not fit its shards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domix.data.store import index as index_module
from domix.data.store.index import (
    COLUMNS,
    INDEX,
    PLACES,
    make_index,
    open_places,
    read_index,
    write_index,
    write_rows,
)
from domix.data.store.shards import ShardReader, ShardWriter, make_block
from domix.runtime.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Return a folder with one shard of three samples and its index."""
    with ShardWriter(tmp_path / "00000.tar") as writer:
        rows = [
            {"key": f"real/axe/{i}", "source": "toy", "domain": "real", "class": "axe", "label": 0, "split": "train"}
            | writer.add(make_block(f"real/axe/{i}", "png", b"image", {}))._asdict()
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
    with pytest.raises(DataError, match=r"index\.parquet is missing$") as caught:
        read_index(tmp_path)
    assert caught.value.remake == tmp_path / INDEX


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
    with pytest.raises(DataError, match="label is double and must be int64"):
        read_index(folder)


def test_some_columns(folder):
    assert list(read_index(folder, ["key", "width"])) == ["key", "width"]


def test_two_keys_that_are_equal_are_found_wherever_they_stand(folder):
    index = read_index(folder)
    for key in (["a", "a", "b"], ["a", "b", "a"], ["b", "a", "a"]):
        with pytest.raises(DataError, match="1 keys stand twice, 'a' among them"):
            write_index(folder, index.assign(key=key))


def test_keys_must_be_unique(folder):
    with pytest.raises(DataError, match="2 keys stand twice, 'same' among them"):
        write_index(folder, read_index(folder).assign(key="same"))


def test_keys_whose_hashes_collide_may_differ(folder, monkeypatch):
    index = read_index(folder)
    monkeypatch.setattr(index_module, "hash_array", lambda keys, categorize: np.zeros(len(keys), np.uint64))
    write_index(folder, index)
    assert read_index(folder)["key"].tolist() == index["key"].tolist()


def test_places_are_mapped_and_say_what_the_index_says(folder):
    index, places = read_index(folder), open_places(folder)
    assert isinstance(places, np.memmap)
    for name in ("size", "offset"):
        assert places[name].tolist() == index[name].tolist()
    assert [f"{number:05d}.tar" for number in places["shard"]] == index["shard"].tolist()


def test_places_that_do_not_fit_the_index(folder):
    change(folder, lambda frame: frame.iloc[:2])
    with pytest.raises(DataError, match=r"places\.npy does not fit index\.parquet \(3 and 2 rows\)"):
        read_index(folder)


@pytest.mark.parametrize("damage", [b"", b"no array", None])
def test_places_missing_or_damaged(folder, damage):
    if damage is None:
        (folder / PLACES).unlink()
    else:
        (folder / PLACES).write_bytes(damage)
    with pytest.raises(DataError, match=r"places\.npy is (missing|damaged)"):
        read_index(folder)


def test_many_tables_become_few_row_groups(tmp_path):
    rows = pa.table(
        {
            name: [0] * 1000 if kind == "int64" else ["00000.tar"] * 1000
            for name, kind in COLUMNS.items()
            if name != "row"
        }
    )
    keyed = (rows.set_column(0, "key", pa.array([f"{n}-{i}" for i in range(1000)])) for n in range(150))
    assert write_rows(tmp_path, keyed) == 150_000
    file = pq.ParquetFile(tmp_path / INDEX)
    assert (file.metadata.num_rows, file.metadata.num_row_groups) == (150_000, 2)
    assert file.read(["row"])["row"].to_pylist() == list(range(150_000))


def test_missing_shard(folder):
    (folder / "00000.tar").unlink()
    with pytest.raises(DataError, match=r"00000\.tar is missing"):
        read_index(folder)


@pytest.mark.parametrize("lacking", [1, 3, 511, 512, 2000])
def test_shard_cut_short(folder, lacking):
    """However little of its last image is missing, nothing is read from it."""
    last = read_index(folder).iloc[-1]
    data = (folder / "00000.tar").read_bytes()
    (folder / "00000.tar").write_bytes(data[: last["offset"] + last["size"] - lacking])
    for opening in (read_index, open_places, ShardReader):
        with pytest.raises(DataError, match=r"00000\.tar is cut short"):
            opening(folder)


def test_shards_other_than_the_last_are_looked_at_too(tmp_path):
    rows, blank = [], {"source": "toy", "domain": "real", "class": "axe", "label": 0, "split": "train"}
    blank |= {"width": 4, "height": 4, "sha256": "0" * 64, "phash": "0" * 16}
    for shard, sizes in (("00000.tar", (700, 20)), ("00001.tar", (5,))):
        with ShardWriter(tmp_path / shard) as writer:
            for size in sizes:
                place = writer.add(make_block(f"k{len(rows)}", "png", bytes(size), {}))
                rows.append(blank | {"key": f"k{len(rows)}"} | place._asdict())
    write_index(tmp_path, make_index(rows))
    data = (tmp_path / "00000.tar").read_bytes()
    end = rows[1]["offset"] + rows[1]["size"]
    (tmp_path / "00000.tar").write_bytes(data[:end])
    assert len(open_places(tmp_path)) == 3  # nothing of any image is missing
    (tmp_path / "00000.tar").write_bytes(data[: end - 1])
    with pytest.raises(DataError, match=r"00000\.tar is cut short"):
        open_places(tmp_path)
    assert len(open_places(tmp_path, shards=False)) == 3
