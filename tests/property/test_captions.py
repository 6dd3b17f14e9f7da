"""Captions of any names, by any stream: draws are Python's own, texts survive, order matters where it should."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domix.data.captions.captions import SCHEMA, make_captions, own_captions, write_captions
from domix.data.captions.streams import BLOCK, reference_draws
from domix.runtime.tables import read_table, write_table

KINDS = [(6, 4), (6, 3), (6, 2), (21, 0), (1, 1), (16, 5)]


@given(st.integers(), st.lists(st.integers(0, len(KINDS) - 1), max_size=80), st.sampled_from([1, 5, 64, BLOCK]))
@settings(deadline=None)
def test_draws_are_those_of_pythons_random(seed, kinds, block):
    stream = random.Random(seed)
    expected = []
    for kind in kinds:
        patterns, nouns = KINDS[kind]
        pattern, stop = stream.choice(range(patterns)), stream.random() < 0.5
        expected.append((pattern, stop, stream.choice(range(nouns)) if nouns else 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("domix.data.captions.streams.BLOCK", block)
        draws = reference_draws(seed, np.array(kinds, dtype=np.int32), KINDS)
    assert list(zip(draws.pattern.tolist(), draws.stop.tolist(), draws.noun.tolist(), strict=True)) == expected


NAMES = st.text(max_size=12) | st.sampled_from(
    ["NA", "null", "", "{class}", '"', "a\tb", "a\nb", "\U0001f600", "the x"]
)


@given(st.lists(st.tuples(NAMES, NAMES), max_size=12), st.sampled_from(["key", "reference"]), st.booleans())
@settings(deadline=None, max_examples=40)
def test_any_class_and_domain_survives(rows, stream, right):
    samples = pd.DataFrame(
        {
            "key": [f"key {number}" for number in range(len(rows))],
            "domain": pd.Series([domain for domain, _ in rows], dtype="str"),
            "class": pd.Series([name for _, name in rows], dtype="str"),
        }
    ).astype("str")
    captions = make_captions(samples, seed=0, stream=stream, articles="right" if right else "reference")
    again = round_trip([pa.Table.from_pandas(captions, SCHEMA)])
    for column in SCHEMA.names:
        assert again[column].tolist() == captions[column].tolist()
    for (_, name), text in zip(rows, again["standard"], strict=True):
        assert name.replace("_", " ") in text


@given(st.dictionaries(st.text(min_size=1), NAMES, max_size=12), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_any_text_that_a_sample_brings_survives(texts, shuffler):
    keys = list(texts)
    shuffler.shuffle(keys)
    frame = pd.DataFrame({"key": list(texts), "text": list(texts.values())}).astype("str")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "texts.parquet"
        write_table(path, frame)
        again = round_trip(own_captions(pd.Series(keys, dtype="str"), path))
    assert again["key"].tolist() == keys
    assert again["standard"].tolist() == again["aligned"].tolist() == [texts[key] for key in keys]


@given(st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=20), st.data())
@settings(deadline=None, max_examples=40)
def test_by_key_neither_order_nor_others_matter(keys, data):
    samples = pd.DataFrame({"key": keys, "domain": "sketch", "class": "lion"})
    whole = make_captions(samples, seed=5).set_index("key")
    some = data.draw(st.permutations(range(len(keys))))[: data.draw(st.integers(1, len(keys)))]
    part = make_captions(samples.iloc[some], seed=5).set_index("key")
    pd.testing.assert_frame_equal(part, whole.iloc[some])


def round_trip(tables: Iterable[pa.Table]) -> pd.DataFrame:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "captions.parquet"
        write_captions(path, tables)
        return read_table(path)
