"""Declared tables: what differs from its declaration is said in one sentence, and the documentation says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from domix.runtime.errors import DataError
from domix.runtime.tables import Column, TableSchema, read_metadata, read_table, write_table
from domix.schemas import tables
from tools import document_tables

SCHEMA = TableSchema(
    "answers",
    (
        Column("name", "str", "who answered"),
        Column("n", "int64", "answers"),
        Column("share", "float64", "of them right"),
        Column("known", "bool", "was it seen before?"),
        Column("x", "float32", "place on the map"),
        Column("mixtures", "list[str]", "which show it"),
    ),
    "one row an answer",
    path="artifacts/answers.parquet",
    written_by="ask",
)
FRAME = pd.DataFrame(
    {
        "name": ["a", "NA"],
        "n": [1, 2],
        "share": [0.5, np.nan],
        "known": [True, False],
        "x": np.float32([1, 2]),
        "mixtures": [["one"], []],
    }
)


def one_sentence(caught: pytest.ExceptionInfo[DataError], *parts: str) -> None:
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_table_reads_back_as_it_was_written(tmp_path: Path) -> None:
    SCHEMA.write(FRAME, tmp_path / "t", made_by="hand")
    made = SCHEMA.read(tmp_path / "t")
    pd.testing.assert_frame_equal(made.drop(columns="mixtures"), FRAME.drop(columns="mixtures"))
    assert [list(names) for names in made["mixtures"]] == [["one"], []]
    assert read_metadata(tmp_path / "t") == {"made_by": "hand"}
    assert list(SCHEMA.read(tmp_path / "t", ["n", "name"]).columns) == ["n", "name"]


def test_the_bytes_are_those_of_any_table(tmp_path: Path) -> None:
    SCHEMA.write(FRAME[FRAME.columns[::-1]], tmp_path / "declared")
    write_table(tmp_path / "plain", FRAME)
    assert (tmp_path / "declared").read_bytes() == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("frame", [SCHEMA.empty(), pd.DataFrame(columns=SCHEMA.names)])
def test_a_table_without_rows_has_its_types(tmp_path: Path, frame: pd.DataFrame) -> None:
    SCHEMA.write(frame, tmp_path / "t")
    types = [str(kind) for kind in pq.read_schema(tmp_path / "t").types]
    assert types == ["large_string", "int64", "double", "bool", "float", "list<element: string>"]
    assert SCHEMA.read(tmp_path / "t")["n"].dtype == np.int64


def test_a_column_without_values_has_its_type(tmp_path: Path) -> None:
    SCHEMA.write(FRAME.assign(name=None), tmp_path / "t")
    assert str(pq.read_schema(tmp_path / "t").field("name").type) == "large_string"
    assert SCHEMA.read(tmp_path / "t")["name"].isna().all()


@pytest.mark.parametrize(
    ("frame", "parts"),
    [
        (FRAME.drop(columns="share"), ["no column 'share'", "of them right", "answers"]),
        (FRAME.assign(more=1), ["column 'more'", "does not declare"]),
        (FRAME.assign(n=FRAME["n"].astype(float)), ["column 'n' of type double", "int64", "answers)"]),
        (FRAME.assign(known=["yes", "no"]), ["column 'known'", "bool"]),
        (FRAME.assign(x=FRAME["x"].astype(float)), ["column 'x'", "float32"]),
        (FRAME.assign(mixtures=["one", "two"]), ["column 'mixtures'", "list[str]"]),
        (FRAME.assign(name=pd.Series(["a", 1], dtype=object)), ["mixes types"]),
    ],
)
def test_nothing_else_is_written(tmp_path: Path, frame: pd.DataFrame, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        SCHEMA.write(frame, tmp_path / "t")
    one_sentence(caught, str(tmp_path / "t"), *parts)
    assert not (tmp_path / "t").exists()
    with pytest.raises(DataError) as caught:
        SCHEMA.check(frame, "the analysis")
    one_sentence(caught, "the analysis", *parts)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "t", FRAME.drop(columns="share"))
    with pytest.raises(DataError) as caught:
        SCHEMA.read(tmp_path / "t")
    one_sentence(caught, str(tmp_path / "t"), "no column 'share'", "have ask write it again")
    assert list(SCHEMA.read(tmp_path / "t", ["n"]).columns) == ["n"]


def test_a_mistyped_column_is_named(tmp_path: Path) -> None:
    write_table(tmp_path / "t", FRAME.assign(n=["1", "2"]))
    with pytest.raises(DataError) as caught:
        SCHEMA.read(tmp_path / "t")
    one_sentence(caught, str(tmp_path / "t"), "'n' of type large_string", "int64", "have ask write it again")


def test_words_may_be_stored_by_number(tmp_path: Path) -> None:
    write_table(tmp_path / "t", FRAME.assign(name=pd.Categorical(FRAME["name"])))
    assert list(SCHEMA.read(tmp_path / "t", ["name"])["name"]) == ["a", "NA"]


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is missing"):
        SCHEMA.read(tmp_path / "t")
    SCHEMA.write(FRAME, tmp_path / "t")
    whole = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable parquet file"):
        SCHEMA.read(tmp_path / "t")


def test_further_columns_of_a_file_are_left_alone(tmp_path: Path) -> None:
    write_table(tmp_path / "t", FRAME.assign(more=1))
    assert list(SCHEMA.read(tmp_path / "t").columns) == SCHEMA.names
    assert "more" in read_table(tmp_path / "t")


def test_a_declaration_is_sound() -> None:
    column = Column("a", "str", "a")
    with pytest.raises(ValueError, match="declares the column 'a' twice"):
        TableSchema("t", (column, column), "")
    with pytest.raises(ValueError, match="no type 'text'"):
        TableSchema("t", (Column("a", "text", "a"),), "")  # ty: ignore[invalid-argument-type]


def test_every_declared_table_says_what_it_is() -> None:
    declared = tables()
    assert len({schema.path for schema in declared}) == len(declared)
    for schema in declared:
        assert schema.meaning and schema.path.endswith(".parquet") and schema.written_by, schema.name
        for column in schema.columns:
            assert column.meaning, f"{schema.name}.{column.name}"


def test_the_documentation_says_what_is_declared() -> None:
    text = document_tables.PAGE.read_text(encoding="utf-8")
    assert document_tables.page(text) == text, "docs/architecture.md: run make docs"
    with pytest.raises(ValueError, match="lacks the lines"):
        document_tables.page("# Architecture")


def test_the_documentation_follows_a_changed_column() -> None:
    made = document_tables.markdown([SCHEMA])
    assert "**`artifacts/answers.parquet`**, written by `ask`: one row an answer." in made
    assert "| `share` | float64 | of them right |" in made
