"""Exports of any mixture with any captions: what is written is read back."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import tarfile
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domix.data.export.parquet import export_parquet, runs
from domix.data.export.records import records
from domix.data.export.tsv import export_tsv
from domix.data.export.webdataset import export_webdataset
from domix.data.sources.corpus import Corpus
from domix.data.sources.pair_table import padded, quoted
from tests.exports import Fake, make_export, make_index

AWKWARD = ['"', "\t", "\n", "\r", "\r\n", "NA", "null", "a", " ", "\0", "\u2028", "\ufeff", "é", "🦁", ",", "'", "\\"]
TEXTS = st.one_of(
    st.lists(st.sampled_from(AWKWARD), max_size=5).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
DOMAINS, CLASSES = ("real", "sketch", "clipart"), ("lion", "axe", "bed")


@st.composite
def mixtures(draw: st.DrawFn) -> Fake:
    """Draw a split list in any order, a mixture of some of its lines and of web images, and captions."""
    lines = draw(st.lists(st.tuples(st.sampled_from(DOMAINS), st.sampled_from(CLASSES)), min_size=1, max_size=12))
    splits = draw(st.lists(st.sampled_from(["train", "test"]), min_size=len(lines), max_size=len(lines)))
    drawn = [
        {"domain": domain, "class": name, "label": CLASSES.index(name), "split": split}
        for (domain, name), split in zip(lines, splits, strict=True)
    ]
    web = draw(st.integers(1, 4))
    indices = {"web": make_index([{}] * web, "web"), "domainnet": make_index(drawn, "domainnet")}
    train = [row for row, split in enumerate(splits) if split == "train"]
    rows = {
        "web": sorted(draw(st.sets(st.integers(0, web - 1), min_size=1))),
        "domainnet": sorted(draw(st.sets(st.sampled_from(train)))) if train else [],
    }
    texts = {name: draw(st.lists(TEXTS, min_size=len(index), max_size=len(index))) for name, index in indices.items()}
    return make_export(indices, rows, texts)


def by_hand(fake: Fake) -> list[tuple[str, int]]:
    """Order a mixture as the reference does: rows grouped in dictionaries while a domain's training list is read."""
    chosen = set(zip(fake.mixture.rows["source"], fake.mixture.rows["row"], strict=True))
    order = [(source, row) for source, row in zip(*fake.mixture.rows[["source", "row"]].T.values, strict=True)]
    order = [place for place in order if place[0] != "domainnet"]
    for domain in sorted(DOMAINS):
        cells: dict[str, list[int]] = {}
        for line in fake.indices["domainnet"].itertuples():
            if line.domain == domain and line.split == "train":
                cells.setdefault(line[list(fake.indices["domainnet"]).index("class") + 1], []).append(line.row)
        order += [("domainnet", row) for rows in cells.values() for row in rows if ("domainnet", row) in chosen]
    return order


@given(mixtures())
@settings(deadline=None, max_examples=30)
def test_the_order_is_the_reference_s(fake):
    assert list(zip(fake.table["source"], fake.table["row"], strict=True)) == by_hand(fake)


@given(mixtures())
@settings(deadline=None, max_examples=30)
def test_tsv_is_read_back_by_pandas_and_by_csv(fake):
    expected = [padded(text) for text in fake.table["text"]]
    with tempfile.TemporaryDirectory() as name:
        export_tsv(*fake.given, Path(name) / "out", prefix="/data")
        path = Path(name) / "out/train.tsv"
        assert pd.read_csv(path, sep="\t", dtype=str)["title"].tolist() == expected
        with open(path, encoding="utf-8", newline="") as file:
            assert [row[1] for row in csv.reader(file, delimiter="\t")][1:] == expected


@given(mixtures(), st.sampled_from(["csv", "reference"]), st.integers(1, 5))
@settings(deadline=None, max_examples=40)
def test_domix_reads_back_the_table_that_it_has_written(fake, dialect, size):
    """Captions are equal, but for what the reference's dialect cannot hold; blank ones are left out."""
    expected = fake.table["text"].tolist()
    if dialect == "reference":
        expected = [re.sub(r"\r\n|[\t\r\n]", " ", text) for text in expected]
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        export_tsv(*fake.given, out, prefix=str(out), dialect=dialect)
        found = [s.text for part in Corpus("again").parts(out, size=size, poses=1) for s in part.samples()]
    assert found == [text for text in expected if text.strip()]


@given(mixtures(), st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_domix_reads_back_the_shards_that_it_has_written(fake, shard_samples):
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        export_webdataset(*fake.given, out, shard_samples=shard_samples)
        found = {s.key: s.text for part in Corpus("again").parts(out, size=9, poses=1) for s in part.samples()}
    written = {sample.name: sample.text for sample in records(fake.table) if sample.text.strip()}
    assert {key.partition("/")[2]: text for key, text in found.items()} == written


@given(mixtures())
@settings(deadline=None, max_examples=30)
def test_the_reference_dialect_has_a_line_and_two_fields_a_sample(fake):
    with tempfile.TemporaryDirectory() as name:
        export_tsv(*fake.given, Path(name) / "out", prefix="/data", dialect="reference")
        lines = (Path(name) / "out/train.tsv").read_bytes().decode().split("\n")
    assert [len(line.split("\t")) for line in lines] == [2] * (len(fake.table) + 1) + [1]
    for text, line in zip(fake.table["text"], lines[1:-1], strict=True):
        assert set(text) & set("\t\r\n") or line.split("\t")[1] == text


@given(mixtures(), st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_shards_hold_every_sample_once(fake, shard_samples):
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        export_webdataset(*fake.given, out, shard_samples=shard_samples)
        sizes = json.loads((out / "sizes.json").read_text())
        found = {}
        for shard in sorted(out.glob("*.tar")):
            with tarfile.open(shard) as tar:
                members = {member.name: tar.extractfile(member).read() for member in tar}
            assert len(members) == 3 * sizes[shard.name] <= 3 * shard_samples
            found |= members
    assert sum(sizes.values()) == len(fake.table)
    assert max(sizes.values()) - min(sizes.values()) <= 1
    for sample in records(fake.table):
        assert found[f"{sample.name}.txt"].decode() == sample.text
        assert json.loads(found[f"{sample.name}.json"])["key"] == sample.key
        assert fake.readers[sample.source].read(sample.row) in found.values()


@given(mixtures(), st.integers(1, 2000), st.integers(1, 2000))
@settings(deadline=None, max_examples=20)
def test_parquet_is_read_back_however_it_is_divided(fake, part, group):
    with tempfile.TemporaryDirectory() as name:
        export_parquet(*fake.given, Path(name) / "out", part_bytes=part, group_bytes=group)
        rows = [row for path in sorted((Path(name) / "out/data").iterdir()) for row in pq.read_table(path).to_pylist()]
    assert [row["caption"] for row in rows] == fake.table["text"].tolist()
    images = [fake.readers[sample.source].read(sample.row) for sample in records(fake.table)]
    assert [row["image"]["bytes"] for row in rows] == images


@given(st.lists(st.integers(0, 50)), st.integers(1, 100))
def test_runs_are_whole_in_order_and_as_long_as_they_may_be(sizes, limit):
    found = runs(sizes, limit)
    assert [item for part in found for item in sizes[part]] == sizes
    for part, after in itertools.pairwise(found):
        assert sum(sizes[part]) + sizes[after.start] > limit
    assert all(sum(sizes[part]) <= limit or part.stop - part.start == 1 for part in found)


@given(TEXTS)
def test_a_quoted_field_is_one_field(text):
    assert next(csv.reader(io.StringIO(f"a\t{quoted(text)}\n", newline=""), delimiter="\t")) == ["a", text]


@pytest.mark.parametrize("text", ["plain", "it's", "a, b", ""])
def test_a_field_without_need_is_not_quoted(text):
    assert quoted(text) == text
