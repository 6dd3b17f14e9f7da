"""The export as the reference's index file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas._libs.parsers import STR_NA_VALUES

from domix.data.export.tsv import export_tsv
from domix.data.sources.corpus import Corpus
from domix.data.sources.image_folders import make_keys
from domix.runtime.errors import DataError
from domix.runtime.tables import MISSING
from tests.exports import CAPTIONS, make_export, make_index, pixels, small

FORGIVEN = [f"{text} " if text in ("NA", "null", "") else text for text in CAPTIONS]


def test_pandas_reads_back_every_caption(tmp_path):
    fake, out = small(), tmp_path / "out"
    export_tsv(*fake.given, out, prefix=str(out))
    table = pd.read_csv(out / "train.tsv", sep="\t")
    assert table.columns.tolist() == ["filepath", "title"]
    assert table["title"].tolist()[:10] == FORGIVEN
    assert table["title"].tolist()[10:] == fake.table["text"].tolist()[10:]


@pytest.mark.parametrize("dialect", ["csv", "reference"])
def test_domix_reads_back_words_for_missing_values_as_they_were(tmp_path, dialect):
    fake, out = small(), tmp_path / "out"
    export_tsv(*fake.given, out, prefix=str(out), dialect=dialect)
    read = [s.text for part in Corpus("again").parts(out, size=3, poses=1) for s in part.samples()]
    assert {"NA", "null", 'say "cheese"', '"quoted"'} <= set(read)


def test_every_path_names_the_packed_image(tmp_path):
    fake, out = small(), tmp_path / "out"
    export_tsv(*fake.given, out, prefix=str(out))
    paths = pd.read_csv(out / "train.tsv", sep="\t")["filepath"]
    assert paths[0] == f"{out}/images/web/00000.png"
    for path, source, row in zip(paths, fake.table["source"], fake.table["row"], strict=True):
        assert Path(path).read_bytes() == fake.readers[source].read(row)
    assert {Path(path).suffix for path in paths} == {".png", ".jpg", ".webp"}


def test_open_clip_reads_it(tmp_path):
    data = pytest.importorskip("open_clip_train.data")
    fake, out = small(), tmp_path / "out"
    export_tsv(*fake.given, out, prefix=str(out))
    read = data.CsvDataset(str(out / "train.tsv"), np.asarray, "filepath", "title", tokenizer=list)
    assert len(read) == 18
    for number, text in enumerate(FORGIVEN):
        image, caption = read[number]
        assert caption == text
        assert (image[..., :3] == pixels(fake.readers["web"].read(number))).all()


def test_the_reference_dialect_quotes_nothing(tmp_path, caplog):
    fake, out = small(), tmp_path / "out"
    told = export_tsv(*fake.given, out, prefix="/data", dialect="reference")
    lines = (out / "train.tsv").read_bytes().decode().split("\n")
    expected = [text.replace("\n", " ").replace("\t", " ") for text in fake.table["text"]]
    assert lines[0] == "filepath\ttitle"
    assert [line.split("\t")[1] for line in lines[1:-1]] == expected
    assert lines[-1] == ""
    assert told["changed_captions"] == 2
    assert [record.getMessage()[:14] for record in caplog.records] == ["2 captions los"]


def test_the_dialects_agree_where_nothing_needs_a_quote(tmp_path, caplog):
    index = make_index([{"domain": "real", "class": "axe", "label": 0}] * 3, "domainnet")
    fake = make_export({"domainnet": index}, {"domainnet": range(3)}, {"domainnet": ["a axe.", "it's", "ünï 🪓"]})
    for dialect in ("csv", "reference"):
        export_tsv(*fake.given, tmp_path / dialect, prefix="/data", dialect=dialect)
    assert (tmp_path / "csv/train.tsv").read_bytes() == (tmp_path / "reference/train.tsv").read_bytes()
    assert caplog.records == []


def test_captions_that_pandas_takes_for_missing_are_counted(tmp_path, caplog):
    told = export_tsv(*small().given, tmp_path / "out", prefix="/data")
    assert told["changed_captions"] == 3
    assert "3 captions got a blank at the end" in caplog.text


def test_the_words_for_missing_are_those_of_pandas():
    assert set(STR_NA_VALUES) == MISSING


def test_weights_are_a_third_column_where_there_are_any(tmp_path, caplog):
    fake = small(weights=[1.0] * 10 + [0.1] * 8)
    export_tsv(*fake.given, tmp_path / "csv", prefix="/data")
    table = pd.read_csv(tmp_path / "csv/train.tsv", sep="\t")
    assert table["weight"].tolist() == fake.table["weight"].tolist()
    export_tsv(*fake.given, tmp_path / "reference", prefix="/data", dialect="reference")
    assert (tmp_path / "reference/train.tsv").read_text().startswith("filepath\ttitle\n")
    assert "weights are left out" in caplog.text


@pytest.fixture
def unpacked(tmp_path) -> Path:
    """Unpacked files of the source domainnet, and what else lies about."""
    folder = tmp_path / "dn"
    for number, name in enumerate(("sketch/lion", "sketch/axe", "sketch/lion", "sketch/axe")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{number}.JPEG").write_bytes(b"x")
    for number, name in enumerate(("real/axe", "real/lion", "real/axe", "real/lion"), start=4):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{number}.png").write_bytes(b"x")
        (folder / name / f"{number}.json").write_text("{}")
    (folder / "other.png").write_bytes(b"x")
    return folder


def test_unpacked_files_are_named_and_not_copied(tmp_path, unpacked):
    fake, out = small(), tmp_path / "out"
    export_tsv(*fake.given, out, prefix=str(out), originals={"domainnet": unpacked})
    paths = pd.read_csv(out / "train.tsv", sep="\t")["filepath"].tolist()
    assert paths[10:12] == [f"{unpacked}/real/axe/4.png", f"{unpacked}/real/axe/6.png"]
    assert paths[-1] == f"{unpacked}/sketch/axe/3.JPEG"
    assert all(Path(path).is_file() for path in paths)
    assert [path.name for path in (out / "images").iterdir()] == ["web"]


def test_unpacked_files_that_differ_in_suffix_alone_are_each_their_own(tmp_path):
    names = ["a.png", "a.jpg", "b.c.png", "b_c.png", "b_c.gif"]
    keys = make_keys("real/axe", names)
    index = make_index([{"key": key, "domain": "real", "class": "axe", "label": 0} for key in keys], "mine")
    fake = make_export({"mine": index}, {"mine": range(5)}, {"mine": names}, main="mine")
    for name in (*names, "../../__MACOSX/real/axe/a.png", ".a.png", "a.json"):
        (tmp_path / "real/axe" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "real/axe" / name).write_bytes(b"x")
    export_tsv(*fake.given, tmp_path / "out", prefix="/data", originals={"mine": tmp_path})
    table = pd.read_csv(tmp_path / "out/train.tsv", sep="\t")
    assert [Path(path).relative_to(tmp_path / "real/axe").name for path in table["filepath"]] == table["title"].tolist()


def test_names_that_are_too_long_for_a_file_are_cut_and_kept_apart(tmp_path):
    keys = ["real/" + "é" * 120 + "x" * 15 + end for end in ("", "1", "2")] + ["real/" + "y" * 250, "real/" + "y" * 249]
    index = make_index([{"key": key, "domain": "real", "class": "axe", "label": 0} for key in keys], "mine")
    fake = make_export({"mine": index}, {"mine": range(5)}, {"mine": keys}, main="mine")
    export_tsv(*fake.given, tmp_path / "out", prefix=str(tmp_path / "out"))
    paths = pd.read_csv(tmp_path / "out/train.tsv", sep="\t")["filepath"]
    for path, row in zip(paths, fake.table["row"], strict=True):
        assert Path(path).read_bytes() == fake.readers["mine"].read(row)
    assert len(set(paths)) == 5
    assert f"/{'y' * 250}.png" in " ".join(paths).replace(".jpg", ".png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "real/axe/4.png").unlink(), "no file for 'real/axe/4' and 0 other"),
        (lambda folder: (folder / "real/axe/4.jpg").write_bytes(b"x"), "two files for sample 'real/axe/4'"),
    ],
)
def test_unpacked_files_that_do_not_fit_are_named(tmp_path, unpacked, change, message):
    change(unpacked)
    with pytest.raises(DataError, match=message):
        export_tsv(*small().given, tmp_path / "out", prefix="/data", originals={"domainnet": unpacked})
    assert not (tmp_path / "out").exists()


def test_a_source_that_is_not_in_the_mixture_is_named(tmp_path, unpacked):
    with pytest.raises(DataError, match=r"no samples of source 'cc3m'.*web, domainnet"):
        export_tsv(*small().given, tmp_path / "out", prefix="/data", originals={"cc3m": unpacked})
