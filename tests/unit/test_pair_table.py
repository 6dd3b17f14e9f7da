"""Tables of images and captions: which way of writing a table has, from its rows alone."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest

from domix.data.sources.pair_table import open_pairs
from domix.runtime.errors import DataError

PLAIN = ['a "quoted" sign', '"begins" and ends "so"', '5" screen', '"', "plain"]


def write(path: Path, *texts: str, header: str = "filepath\ttitle", end: str = "\n") -> Path:
    lines = [header, *(f"{n}.png\t{text}" for n, text in enumerate(texts))]
    path.write_text(end.join([*lines, ""]), encoding="utf-8", newline="")
    return path


def texts(path: Path, size: int = 1000) -> list[str]:
    table = open_pairs(path)
    rows = [row for place in table.divide(size) for row in table.rows(*place)]
    assert [row[1] for row in rows] == [f"{number}.png" for number in range(len(rows))]
    return [row[2] for row in rows]


def test_a_plain_table_is_read_as_it_stands(tmp_path):
    assert texts(write(tmp_path / "t.tsv", *PLAIN)) == PLAIN
    assert texts(write(tmp_path / "t.tsv", *PLAIN, '"a ""b"""')) == [*PLAIN, '"a ""b"""']


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_pandas_writes_is_read_as_it_was(tmp_path, quoting, mark):
    written = [*PLAIN, "two\nlines", "a\ttab", "NA", "null"]
    frame = pd.DataFrame({"filepath": [f"{n}.png" for n in range(len(written))], "title": written})
    frame.to_csv(tmp_path / "t.tsv", sep="\t", index=False, quoting=quoting, encoding="utf-8-sig" if mark else "utf-8")
    assert all(texts(tmp_path / "t.tsv", size) == written for size in (1, 2, 3, 100))
    frame.sample(frac=1, axis=1, random_state=1).to_csv(tmp_path / "t.tsv", sep="\t", quoting=quoting)  # and an index
    assert texts(tmp_path / "t.tsv") == written


def test_a_spreadsheet_puts_fields_with_a_comma_in_quotes(tmp_path):
    assert texts(write(tmp_path / "t.tsv", '"a, b"', "c", end="\r\n")) == ["a, b", "c"]
    assert texts(write(tmp_path / "t.tsv", '"a, b"', "c, d", end="\r\n")) == ['"a, b"', "c, d"]


def test_quotes_that_may_be_either_are_the_caption_s(tmp_path):
    """No writer of quoted tables puts quotes about a text without need where the header has none."""
    assert texts(write(tmp_path / "t.tsv", '"Hello world"')) == ['"Hello world"']


@pytest.mark.parametrize("header", ["filepath\ttitle", '"filepath"\t"title"'])
def test_a_table_of_both_kinds_is_refused_with_the_line(tmp_path, header):
    path = write(tmp_path / "t.tsv", '"a ""b"""', '"c ""d"""', '5" screen', '"e ""f"""', header=header)
    with pytest.raises(DataError, match=r"line 4 has quotes that are none of these.*quoting=3") as caught:
        open_pairs(path)
    assert "\n" not in str(caught.value)


def test_a_line_with_an_open_quote_hides_none_of_those_behind_it(tmp_path):
    path = write(tmp_path / "t.tsv", '5" screen', '"a ""b"""', '"c ""d"""', "plain")
    with pytest.raises(DataError, match="line 2 has quotes that are none of these"):
        open_pairs(path)


def test_a_quote_that_never_closes_swallows_nothing(tmp_path):
    rows = ['"open', *['said ""x""'] * 5, "end"]
    assert texts(write(tmp_path / "t.tsv", *rows)) == rows


def test_a_header_of_another_kind_of_text(tmp_path):
    (tmp_path / "t.tsv").write_bytes("filepath\ttitle\n".encode("utf-16"))
    with pytest.raises(DataError, match="is UTF-16 text: save it as UTF-8"):
        open_pairs(tmp_path / "t.tsv")


def test_further_columns_are_left_alone_and_told(tmp_path, caplog):
    assert texts(write(tmp_path / "t.tsv", "a\t0.5", header="filepath\ttitle\tweight")) == ["a"]
    assert "further columns, which are not read: 'weight'" in caplog.text


def test_a_row_of_a_quoted_table_that_was_damaged_is_told(tmp_path):
    path = write(tmp_path / "train.tsv", '"a" b')
    (tmp_path / "export.json").write_text('{"format": "tsv", "dialect": "csv"}')
    with pytest.raises(DataError, match="line 2 has quotes that do not match"):
        texts(path)
