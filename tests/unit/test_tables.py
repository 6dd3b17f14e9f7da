"""Parquet tables: equal input gives equal bytes, and whatever is wrong with a file is said in one sentence."""

from __future__ import annotations

import pandas as pd
import pytest

from domix.runtime.errors import DataError
from domix.runtime.tables import read_metadata, read_table, write_table

FRAME = pd.DataFrame({"text": ["a", "NA", "b\tc\n"], "number": [1, 2, 3]}, index=[7, 8, 9])


def test_tables_and_their_metadata_read_back(tmp_path):
    write_table(tmp_path / "t", FRAME, {"name": "caf\u00e9", "list": [1, None]})
    pd.testing.assert_frame_equal(read_table(tmp_path / "t"), FRAME.reset_index(drop=True))
    assert read_metadata(tmp_path / "t") == {"name": "caf\u00e9", "list": [1, None]}
    assert list(read_table(tmp_path / "t", ["number"]).columns) == ["number"]


def test_equal_input_gives_equal_bytes(tmp_path):
    write_table(tmp_path / "a", FRAME, {"x": 1, "y": 2})
    write_table(tmp_path / "b", FRAME.reset_index(drop=True), {"y": 2, "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_faults_are_named(tmp_path):
    with pytest.raises(DataError, match=r"is missing$") as caught:
        read_table(tmp_path / "t")
    assert caught.value.remake == tmp_path / "t"
    write_table(tmp_path / "t", FRAME)
    with pytest.raises(DataError, match="has no column 'domain'"):
        read_table(tmp_path / "t", ["text", "domain"])
    with pytest.raises(DataError, match="holds no 'domix' metadata"):
        read_metadata(tmp_path / "t")
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable parquet file") as caught:
        read_table(tmp_path / "t")
    assert caught.value.remake == tmp_path / "t"


def test_a_damaged_body_is_named(tmp_path):
    write_table(tmp_path / "t", FRAME)
    whole = bytearray((tmp_path / "t").read_bytes())
    whole[4:40] = b"\xff" * 36
    (tmp_path / "t").write_bytes(whole)
    with pytest.raises(DataError, match="damaged"):
        read_table(tmp_path / "t")
