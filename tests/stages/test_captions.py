"""The stage captions: samples' own texts, both streams, and nothing half written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from domix.data.captions.captions import make_captions
from domix.runtime.errors import DataError
from domix.runtime.settings import replace
from domix.runtime.tables import read_table, write_table
from domix.settings.load import load
from domix.settings.params import Params
from stages import captions
from tests.fakes import make_index

ROOT = Path(__file__).resolve().parents[2]
INDEX, TEXTS = Path("artifacts/shards/emoji/index.parquet"), Path("artifacts/shards/emoji/texts.parquet")
MADE = Path("artifacts/captions/emoji.parquet")


@pytest.fixture
def params(tmp_path, monkeypatch) -> Params:
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    index = make_index({d: [4, 5, 6] for d in ("clipart", "real", "sketch")}, classes=["axe", "lion", "pizza"])
    write_table(INDEX, index)
    return loaded


def test_the_samples_own_texts_are_their_captions(params):
    keys = read_table(INDEX, ["key"])["key"]
    texts = pd.DataFrame({"key": keys, "text": [f"text {number}" for number in range(len(keys))]})
    write_table(TEXTS, texts.sample(frac=1, random_state=0))
    captions.main(params, "emoji")
    made = read_table(MADE)
    assert made["key"].tolist() == keys.tolist()
    assert made["standard"].tolist() == made["aligned"].tolist() == texts["text"].tolist()


def test_missing_texts_leave_the_old_captions(params):
    captions.main(params, "emoji")
    before = MADE.read_bytes()
    keys = read_table(INDEX, ["key"])["key"]
    texts = pd.DataFrame({"key": keys[5:], "text": "text"})
    write_table(TEXTS, texts)
    message = f"captions of emoji: 5 of {len(keys)} samples, {keys[0]!r} the first, have no caption"
    with pytest.raises(DataError, match=message):
        captions.main(params, "emoji")
    assert MADE.read_bytes() == before
    assert [file.name for file in MADE.parent.iterdir()] == ["emoji.parquet"]


class Listed:
    """A source that only knows its listing."""

    def __init__(self, samples: pd.DataFrame | None) -> None:
        self.samples = samples

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame | None:
        return self.samples


@pytest.mark.parametrize("articles", ["right", "reference"])
def test_the_reference_stream_runs_over_rejected_images_too(params, monkeypatch, articles):
    listing = read_table(INDEX)
    monkeypatch.setattr(captions, "get_source", lambda name, has_folder: Listed(listing))
    write_table(INDEX, listing.drop(index=[0, 7, 20]))
    params = replace(params, captions=replace(params.captions, stream="reference", articles=articles))
    captions.main(params, "emoji")
    made = read_table(MADE)
    whole = make_captions(listing, seed=params.captions.seed, stream="reference", articles=articles)
    assert made.to_dict("list") == whole.drop(index=[0, 7, 20]).to_dict("list")
    assert made["standard"].str.contains("a axe").any() == (articles == "reference")


def test_the_reference_stream_needs_a_listing_or_texts(params, monkeypatch):
    monkeypatch.setattr(captions, "get_source", lambda name, has_folder: Listed(None))
    params = replace(params, captions=replace(params.captions, stream="reference"))
    with pytest.raises(DataError, match=r"captions of emoji: .* pack wrote no texts\.parquet"):
        captions.main(params, "emoji")
    assert not MADE.exists()
