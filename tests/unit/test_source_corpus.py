"""CC3M and CC12M: webdataset tar files, parquet and files, tables; what is left out, and what is refused."""

from __future__ import annotations

import json
import logging
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from domix.data.sources.contract import NO_LABEL
from domix.data.sources.corpus import Corpus
from domix.runtime.errors import DataError
from tests.source_trees import check_source, image, make_tar, make_tree, read

TEXTS = {"000000000": 'a "quoted" cat', "000000001": "NA", "000000002": "tab\there, \U0001f600\nnew line"}


def facts(text: str | None, status: str = "success") -> bytes:
    return json.dumps({"caption": text, "status": status, "url": "http://x"}).encode()


def pair(key: str, text: str, kind: str = "jpg") -> dict[str, bytes]:
    return {f"{key}.{kind}": image(f"{key}.{kind}"), f"{key}.txt": text.encode(), f"{key}.json": facts(text)}


def shard(start: int = 0) -> dict[str, bytes]:
    return {n: d for i, text in enumerate(TEXTS.values(), start=start) for n, d in pair(f"{i:09d}", text).items()}


def corpus(root: Path) -> list:
    found = check_source(Corpus("cc3m"), root)
    assert {(s.domain, s.class_name, s.label) for s in found} <= {("cc3m", None, NO_LABEL)}
    return found


def fails(root: Path, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern) as caught:
        read(Corpus("cc3m"), root)
    assert "\n" not in str(caught.value)


# Tar files ----------------------------------------------------------------------------------------


def test_tar_files(tmp_path):
    make_tar(tmp_path / "00001.tar", shard(10_000))
    make_tar(tmp_path / "00000.tar", shard())
    make_tar(tmp_path / "val/00000.tar", shard())
    (tmp_path / "00000_stats.json").write_text("{}")
    (tmp_path / "00000.parquet").write_text("not read")
    found = corpus(tmp_path)
    assert [s.key for s in found] == [
        *(f"00000/{i:09d}" for i in range(3)),
        *(f"00001/{i:09d}" for i in range(10_000, 10_003)),
        *(f"val/00000/{i:09d}" for i in range(3)),
    ]
    assert [s.text for s in found] == [*TEXTS.values()] * 3
    assert [s.split for s in found] == ["train"] * 6 + ["test"] * 3
    assert found[1].data == image("000000001.jpg")
    assert Corpus("cc3m").files(tmp_path) == ["00000.tar", "00001.tar", "val/00000.tar"]
    assert len(Corpus("cc3m").parts(tmp_path, size=1, poses=1)) == 3


def test_kinds_of_members(tmp_path):
    members = {
        "./a/1.png": image("1.png"),
        "./a/1.txt": b"only a text",
        "a/2.webp": image("2.png"),
        "a/2.json": facts("only facts"),
        "a/3.seg.png": image("3.png"),
        "a/3.txt": b"two dots",
        "a/4.JPG": image("4.jpg"),
        "a/4.txt": b"\xff latin",
        "a/5.jpg": image("5.jpg"),
        "a/5.json": b'{"caption": "\\ud83d half"}',
        "README": b"",
        "a/.hidden": b"",
    }
    make_tar(tmp_path / "00000.tar", members)
    assert [(s.key, s.text) for s in corpus(tmp_path)] == [
        ("00000/a/1", "only a text"),
        ("00000/a/2", "only facts"),
        ("00000/a/3", "two dots"),
        ("00000/a/4", "\ufffd latin"),
        ("00000/a/5", "? half"),
    ]


def test_keys_with_dots_stay_apart(tmp_path, caplog):
    """webdataset's own rule, the key ends at the first dot, makes one sample of all these."""
    members = {}
    for key in ("a.b", "a.c", "a", "x/2024.01.02 one", "x/2024.01.02 two", "alone.v1"):
        members |= {f"{key}.jpg": image(key), f"{key}.txt": key.encode()}
    make_tar(tmp_path / "00000.tar", members)
    with caplog.at_level(logging.WARNING):
        found = corpus(tmp_path)
    assert {s.text: s.data for s in found} == {key: image(key) for key in {s.text for s in found}}
    assert [(s.key, s.text) for s in found] == [
        ("00000/a_b", "a.b"),
        ("00000/a_c", "a.c"),
        ("00000/a", "a"),
        ("00000/x/2024_01_02 one", "x/2024.01.02 one"),
        ("00000/x/2024_01_02 two", "x/2024.01.02 two"),
        ("00000/alone_v1", "alone.v1"),
    ]
    assert caplog.text == ""


def test_a_further_image_of_a_sample_is_counted(tmp_path, caplog):
    members = {"1.seg.png": image("seg"), "1.jpg": image("1"), "1.json": facts("one")}
    make_tar(tmp_path / "00000.tar", members)
    with caplog.at_level(logging.WARNING):
        assert [(s.key, s.data) for s in corpus(tmp_path)] == [("00000/1", image("1"))]
    assert "left out 1 of 2 pairs" in caplog.text
    assert "1 without a caption" in caplog.text


def test_two_images_of_one_key_are_refused(tmp_path):
    make_tar(tmp_path / "00000.tar", {"1.jpg": b"x", "1.png": b"y", "1.txt": b"one"})
    fails(tmp_path, r"00000\.tar holds two images of the key 1, 1\.jpg and 1\.png: rename one")


def test_keys_that_differ_in_unfit_characters_alone_stay_apart(tmp_path):
    make_tar(tmp_path / "00000.tar", {**pair("a!", "one"), **pair("a_", "two"), **pair("a.b", "three")})
    found = corpus(tmp_path)
    assert [s.text for s in found] == ["one", "two", "three"]
    assert all(s.key.startswith("00000/a_") for s in found)


def test_what_systems_leave_behind_is_no_pair(tmp_path):
    left = {
        "__MACOSX/._000000000.jpg": b"x",
        "__MACOSX/000000000.jpg": b"x",
        "@eaDir/7.jpg": b"x",
        "@eaDir/7.txt": b"x",
    }
    make_tar(tmp_path / "00000.tar", {**shard(), **left})
    (tmp_path / "._00000.tar").write_bytes(b"x")
    make_tar(tmp_path / "$RECYCLE.BIN/00001.tar", shard(3))
    assert len(corpus(tmp_path)) == 3


def test_pairs_that_are_left_out_are_counted_in_the_log_once_a_part(tmp_path, caplog):
    members = {
        **shard(),
        "000000010.jpg": b"x",
        "000000011.jpg": b"x",
        "000000011.txt": b" \n",
        "000000012.json": facts("failed", "failed_to_download"),
        "000000013.json": facts("no image"),
        "000000014.jpg": b"x",
        "000000014.json": b"[1",
        "000000015.jpg": b"x",
        "000000015.json": b"[1]",
        "000000016.jpg": b"x",
        "000000016.json": facts("late", "failed_to_resize"),
    }
    make_tar(tmp_path / "00000.tar", members)
    with caplog.at_level(logging.WARNING):
        assert len(read(Corpus("cc3m"), tmp_path)) == 3
    assert [record.getMessage() for record in caplog.records] == [
        f"left out 7 of 10 pairs of {tmp_path}/00000.tar: 1 not downloaded, 4 without a caption, 2 without an image"
    ]


def test_damaged_tar_files(tmp_path):
    path = make_tar(tmp_path / "00000.tar", shard())
    path.write_bytes(path.read_bytes()[:1500])
    fails(tmp_path, r"00000\.tar is cut off")


def test_linked_tar_files(tmp_path):
    make_tar(tmp_path / "disk/x.tar", shard())
    (tmp_path / "root").mkdir()
    (tmp_path / "root/00000.tar").symlink_to(tmp_path / "disk/x.tar")
    assert len(corpus(tmp_path / "root")) == 3


# Parquet and files --------------------------------------------------------------------------------


def parquet(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


ROWS = [{"key": key, "caption": text, "status": "success", "url": "http://x"} for key, text in TEXTS.items()]


def test_parquet_and_files(tmp_path):
    for prefix in ("", "val/"):
        parquet(tmp_path / f"{prefix}00000.parquet", ROWS)
        make_tree(tmp_path, *(f"{prefix}00000/{key}.jpg" for key in TEXTS))
    (tmp_path / "00000/000000000.json").write_text("{}")
    found = corpus(tmp_path)
    assert [s.text for s in found] == [*TEXTS.values()] * 2
    assert [s.key for s in found] == [f"{prefix}00000/{key}" for prefix in ("", "val/") for key in TEXTS]
    assert found[2].data == image("00000/000000002.jpg")
    assert [s.split for s in found] == ["train"] * 3 + ["test"] * 3
    assert Corpus("cc3m").files(tmp_path) == ["00000.parquet", "val/00000.parquet", "00000", "val/00000"]


def test_rows_that_are_left_out(tmp_path, caplog):
    more = [
        {"key": "000000003", "caption": "x", "status": "failed_to_download"},
        {"key": "000000004", "caption": None, "status": "success"},
    ]
    parquet(tmp_path / "00000.parquet", ROWS + more)
    make_tree(tmp_path, *(f"00000/{key}.jpg" for key in TEXTS))
    with caplog.at_level(logging.WARNING):
        assert len(read(Corpus("cc3m"), tmp_path)) == 3
    assert "left out 2 of 5 pairs of" in caplog.text
    assert "1 not downloaded, 1 without a caption" in caplog.text


def test_parquet_files_that_do_not_fit(tmp_path):
    parquet(tmp_path / "00000.parquet", ROWS)
    fails(tmp_path, "00000 cannot be read")
    make_tree(tmp_path, "00000/000000000.jpg")
    fails(tmp_path, "names 000000001, of which .*00000 holds no image")
    parquet(tmp_path / "00000.parquet", [{"url": "x"}])
    fails(tmp_path, "has no column caption: it is not img2dataset's")
    (tmp_path / "00000.parquet").write_bytes(b"PAR1")
    fails(tmp_path, "is not a whole parquet file")


def test_parquet_rows_and_images_of_one_key_are_refused(tmp_path):
    parquet(tmp_path / "00000.parquet", [*ROWS, ROWS[0]])
    make_tree(tmp_path, *(f"00000/{key}.jpg" for key in TEXTS))
    fails(tmp_path, "names 000000000 a second time")
    make_tree(tmp_path, "00000/000000000.png")
    fails(tmp_path, r"holds two images of one key, 000000000\.jpg and 000000000\.png: remove one")


# Tables -------------------------------------------------------------------------------------------


def table(path: Path, *rows: str, header: str = "filepath\ttitle") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("\n".join([header, *rows, ""]).encode())


def test_tables(tmp_path):
    make_tree(tmp_path, "images/a.jpg", "images/a.png", "b c.jpg")
    table(tmp_path / "cc3m-train.tsv", 'images/a.jpg\ta "cat', "images/a.png\tNA", "b c.jpg\ttab\there\r")
    table(tmp_path / "cc3m-val.tsv", f"{tmp_path}/images/a.jpg\t'\"")
    make_tree(tmp_path / "val", "d.jpg")
    table(tmp_path / "val/more.tsv", "d.jpg\tnull")
    found = corpus(tmp_path)
    assert [(s.key, s.text, s.split) for s in found] == [
        ("cc3m-train/000000002", 'a "cat', "train"),
        ("cc3m-train/000000003", "NA", "train"),
        ("cc3m-train/000000004", "tab\there", "train"),
        ("cc3m-val/000000002", "'\"", "test"),
        ("val/more/000000002", "null", "test"),
    ]
    assert found[1].data == image("images/a.png")
    assert found[3].data == found[0].data
    assert Corpus("cc3m").files(tmp_path) == ["cc3m-train.tsv", "cc3m-val.tsv", "val/more.tsv"]


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_table_may_spell_names_in_another_unicode_form(tmp_path, forms):
    on_disk, in_table = (unicodedata.normalize(form, "café at\u202f4.jpg") for form in forms)
    make_tree(tmp_path, on_disk)
    table(tmp_path / "a.tsv", f"{in_table}\tone")
    assert [s.data for s in corpus(tmp_path)] == [image(on_disk)]


def test_a_table_without_a_last_line_end_and_with_blank_lines(tmp_path, caplog):
    make_tree(tmp_path, "a.jpg")
    (tmp_path / "a.tsv").write_bytes(b"filepath\ttitle\r\na.jpg\tone\r\n\r\na.jpg\t \r\na.jpg\ttwo")
    with caplog.at_level(logging.WARNING):
        found = corpus(tmp_path)
    assert [(s.key, s.text) for s in found] == [("a/000000002", "one"), ("a/000000005", "two")]
    assert "1 without a caption" in caplog.text


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("a.jpg", "line 3 has 1 of the 2 columns that the header names"),
        ("../a.jpg\tx", r"line 3 names '\.\./a\.jpg', which leads out"),
        ("/etc/passwd\tx", "line 3 names '/etc/passwd', which is not a relative path.*must lie below"),
        ("b.jpg\tx", "line 3 names b.jpg, which is missing"),
        ("links/a.jpg\tx", "a.jpg is a link that leads out"),
    ],
)
def test_bad_lines(tmp_path, line, pattern):
    make_tree(tmp_path, "root/a.jpg")
    make_tree(tmp_path, "outside.jpg")
    (tmp_path / "root/links").mkdir()
    (tmp_path / "root/links/a.jpg").symlink_to(tmp_path / "outside.jpg")
    table(tmp_path / "root/t.tsv", "a.jpg\tgood", line)
    fails(tmp_path / "root", pattern)


def test_tables_that_are_none(tmp_path):
    table(tmp_path / "t.tsv", header="caption\turl")
    fails(tmp_path, "does not begin with the header `filepath<TAB>title`")
    (tmp_path / "t.tsv").write_bytes(b"filepath\ttitle\n\xff\tx\n")
    fails(tmp_path, "line 2 is not UTF-8 text")


def test_nothing_there(tmp_path):
    fails(tmp_path, "holds no pairs of cc3m .*, or name another folder")
