"""The export as a data set for Hugging Face `datasets`."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ruamel.yaml import YAML

from domix.data.export.parquet import card, export_parquet, features, runs
from tests.exports import small


def read(out) -> pa.Table:
    return pa.concat_tables([pq.read_table(path) for path in sorted((out / "data").iterdir())])


def test_every_sample_is_read_back_in_order(tmp_path):
    fake = small(weights=[1.0] * 10 + [0.5] * 8)
    export_parquet(*fake.given, tmp_path / "out")
    table = read(tmp_path / "out")
    assert table["caption"].to_pylist() == fake.table["text"].tolist()
    for name in ("source", "key", "domain", "label", "split", "weight"):
        assert table[name].to_pylist() == fake.table[name].tolist()
    assert table["class"].to_pylist() == [None] * 10 + fake.table["class"].tolist()[10:]
    for image, source, row in zip(table["image"].to_pylist(), fake.table["source"], fake.table["row"], strict=True):
        assert image["bytes"] == fake.readers[source].read(row)
        assert image["path"].startswith(f"{source}/")
    assert table["image"][0].as_py()["path"] == "web/00000.png"


def test_the_schema_says_what_hugging_face_reads():
    """Types as `datasets.Features.to_dict()` writes them, below the metadata key that it reads."""
    assert features() == {
        "image": {"_type": "Image"},
        "caption": {"dtype": "string", "_type": "Value"},
        "source": {"dtype": "string", "_type": "Value"},
        "key": {"dtype": "string", "_type": "Value"},
        "domain": {"dtype": "string", "_type": "Value"},
        "class": {"dtype": "string", "_type": "Value"},
        "label": {"dtype": "int64", "_type": "Value"},
        "split": {"dtype": "string", "_type": "Value"},
        "weight": {"dtype": "float64", "_type": "Value"},
    }


def test_the_files_carry_the_schema(tmp_path):
    export_parquet(*small().given, tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out/data/train-00000-of-00001.parquet")
    assert json.loads(schema.metadata[b"huggingface"]) == {"info": {"features": features()}}
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert schema.names == list(features())


def test_files_and_row_groups_are_limited(tmp_path):
    fake = small()
    size = int(fake.table["size"].max())
    export_parquet(*fake.given, tmp_path / "out", part_bytes=4 * size, group_bytes=2 * size)
    paths = sorted((tmp_path / "out/data").iterdir())
    assert [path.name for path in paths] == [f"train-{n:05d}-of-{len(paths):05d}.parquet" for n in range(len(paths))]
    assert len(paths) >= 2
    for path in paths:
        file = pq.ParquetFile(path)
        groups = [file.read_row_group(number)["image"].to_pylist() for number in range(file.num_row_groups)]
        sizes = [sum(len(image["bytes"]) for image in group) for group in groups]
        assert max(sizes) <= 2 * size
        assert sum(sizes) <= 4 * size
    assert read(tmp_path / "out")["caption"].to_pylist() == fake.table["text"].tolist()


def test_the_card_opens_with_a_header_that_the_hub_reads(tmp_path):
    export_parquet(*small().given, tmp_path / "out", licences={"web": "CC-BY-4.0"})
    text = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    told = YAML(typ="safe").load(head)
    assert told["license"] == "other"
    assert told["size_categories"] == ["n<1K"]
    assert told["configs"] == [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}]
    assert "| web | 10 | CC-BY-4.0 |" in body
    assert "| domainnet | 8 | not recorded" in body
    assert "| domainnet | real | 4 | 2 |" in body


def test_the_card_names_the_held_out_cells():
    fake = small(held_out=("sketch", ("pizza",)))
    assert "no sample of domain `sketch` shows one of these classes: pizza." in card(fake.mixture, fake.table, {})


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([], 5, []),
        ([1, 2, 3], 6, [(0, 3)]),
        ([1, 2, 3], 5, [(0, 2), (2, 3)]),
        ([9, 1, 9], 5, [(0, 1), (1, 2), (2, 3)]),
        ([0, 0, 9, 0], 5, [(0, 2), (2, 3), (3, 4)]),
    ],
)
def test_runs(sizes, limit, expected):
    assert [(part.start, part.stop) for part in runs(sizes, limit)] == expected
