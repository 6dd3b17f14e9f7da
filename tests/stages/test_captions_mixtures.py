"""The stages captions and mixtures, from indices to files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from domix import config
from domix.config import Params
from domix.data.mixtures import read_mixture
from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import read_json
from domix.runtime.tables import read_table, write_table
from stages import captions, mixtures
from tests.fakes import make_index

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ["axe", "lion", "pizza"]
NAMES = ["natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-high-all"]


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    loaded = config.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    index = make_index({d: [4, 5, 6] for d in ("clipart", "painting", "real", "sketch")}, classes=CLASSES)
    write_table(tmp_path / "artifacts/shards/emoji/index.parquet", index)
    monkeypatch.chdir(tmp_path)
    return replace(loaded, sources=["emoji"], mixtures=NAMES, test_domain="sketch", test_classes=["lion"])


def test_captions_are_written_for_every_sample(params):
    captions.main(params, "emoji")
    made = read_table(Path("artifacts/captions/emoji.parquet"))
    assert made["key"].tolist() == read_table(Path("artifacts/shards/emoji/index.parquet"))["key"].tolist()
    assert made["standard"].str.contains("lion|axe|pizza").all()


def test_all_mixtures_and_their_summary_are_written(params):
    mixtures.main(params)
    folder = Path("artifacts/mixtures")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["summary.json", "cells.parquet", *(f"{name}.parquet" for name in NAMES)]
    )
    summary = read_json(folder / "summary.json")
    assert [m["name"] for m in summary["mixtures"]] == NAMES
    assert summary["test_classes"] == ["lion"]
    for described in summary["mixtures"]:
        mixture = read_mixture(folder / f"{described['name']}.parquet")
        assert (len(mixture.rows), mixture.digest) == (described["samples"], described["digest"])


def test_a_second_run_writes_the_same_bytes_and_drops_what_is_no_longer_asked_for(params):
    mixtures.main(params)
    folder = Path("artifacts/mixtures")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    mixtures.main(params)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    mixtures.main(replace(params, mixtures=["cg-low"]))
    assert sorted(path.name for path in folder.iterdir()) == ["cells.parquet", "cg-low.parquet", "summary.json"]


def test_another_test_domain_leaves_natural_only_as_it_was(params):
    mixtures.main(params)
    natural = Path("artifacts/mixtures/natural-only.parquet")
    before = natural.read_bytes()
    mixtures.main(replace(params, test_domain="clipart"))
    assert natural.read_bytes() == before


def test_base_sources_go_into_every_mixture(params):
    base = make_index({"web": [2, 3]}, source="web")
    write_table(Path("artifacts/shards/web/index.parquet"), base.assign(domain=None, **{"class": None}))
    mixtures.main(replace(params, sources=["emoji", "web"]))
    for name in NAMES:
        assert read_mixture(Path(f"artifacts/mixtures/{name}.parquet")).samples["web"] == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_domain": "sktech"}, "did you mean 'sketch'"),
        ({"natural_domain": "photo"}, "natural_domain 'photo' is not in the data"),
        ({"test_classes": ["lino"]}, "'lino'"),
        ({"mixtures": ["cg-hgih"]}, "did you mean 'cg-high'"),
        ({"mixtures": ["cg-low+quickdraw"]}, "'quickdraw' is no domain of the data"),
        ({"sources": ["emoji", "cc3m"]}, r"cc3m.index\.parquet is missing"),
    ],
)
def test_a_mistake_leaves_the_old_mixtures_and_nothing_half_written(params, changes, message):
    mixtures.main(params)
    before = {path: path.read_bytes() for path in Path("artifacts/mixtures").iterdir()}
    with pytest.raises(DomixError, match=message) as caught:
        mixtures.main(replace(params, **changes))
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in Path("artifacts/mixtures").iterdir()} == before
    assert not [path for path in Path("artifacts").iterdir() if path.name.startswith(".")]


def test_a_missing_index_is_named(params):
    with pytest.raises(DataError, match=r"sketches.index\.parquet is missing"):
        captions.main(params, "sketches")
