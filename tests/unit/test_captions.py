"""Captions: the study's sentences, one random stream a key, samples' own texts, and text that survives its file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from domix.data.captions.captions import SCHEMA, make_captions, own_captions, write_captions
from domix.data.captions.patterns import DOMAIN_NOUNS, GENERIC_NOUNS, SKETCHES
from domix.runtime.errors import DataError
from domix.runtime.tables import read_table, write_table
from tests.fakes import DOMAINS, make_index


def index_of(domain: str, name: str, count: int) -> pd.DataFrame:
    keys = [f"{domain}/{name}/{i}" for i in range(count)]
    return pd.DataFrame({"key": keys, "domain": domain, "class": name})


def save(folder: Path, captions: pd.DataFrame | Iterable[pa.Table]) -> pd.DataFrame:
    """Write captions to a file and read them again."""
    tables = [pa.Table.from_pandas(captions, SCHEMA)] if isinstance(captions, pd.DataFrame) else captions
    write_captions(folder / "captions.parquet", tables)
    return read_table(folder / "captions.parquet")


def possible(domain: str, name: str, *, aligned: bool) -> set[str]:
    """Spell out all sentences by hand."""
    article = {"image": "an image", "picture": "a picture", "clipart": "a clipart", "art": "art", "sketch": "a sketch"}
    article |= {"painting": "a painting", "drawing": "a drawing", "illustration": "an illustration"}
    sentences = set()
    for noun in GENERIC_NOUNS if aligned else (*GENERIC_NOUNS, *DOMAIN_NOUNS[domain]):
        with_noun, thing = article[noun], {"axe": "an axe", "lion": "a lion"}[name]
        sentences |= {
            f"{with_noun} of {thing}",
            f"{thing} {noun}",
            f"{with_noun} depicting {thing}",
            f"{thing} depicted in {with_noun}",
            f"{with_noun} showing {thing}",
            f"{thing} is visible in {with_noun}",
        }
    return sentences | {sentence + "." for sentence in sentences}


@pytest.mark.parametrize(("domain", "name"), [("clipart", "axe"), ("painting", "lion"), ("sketch", "axe")])
def test_all_of_the_studys_sentences_occur_and_no_others(domain, name):
    captions = make_captions(index_of(domain, name, 3000), seed=0)
    assert set(captions["standard"]) == possible(domain, name, aligned=False)
    assert set(captions["aligned"]) == possible(domain, name, aligned=True)


def test_choices_are_even():
    captions = make_captions(index_of("real", "lion", 20_000), seed=0)
    dots = captions["standard"].str.endswith(".").mean()
    assert abs(dots - 0.5) < 0.02
    words = captions["standard"].str.extract(r"\b(image|picture|photo|snapshot)\b")[0].value_counts(normalize=True)
    assert set(words.index) == {"image", "picture", "photo", "snapshot"}
    assert abs(words - 0.25).max() < 0.02
    shape = captions["standard"].str.replace(r"an? (image|picture|photo|snapshot)", "N", regex=True)
    shape = shape.str.replace(r"image|picture|photo|snapshot", "n", regex=True).str.rstrip(".")
    assert abs(shape.value_counts(normalize=True) - 1 / 6).max() < 0.02


def test_choices_are_independent_of_each_other():
    captions = make_captions(index_of("real", "lion", 20_000), seed=0)["standard"]
    table = pd.crosstab(captions.str.endswith("."), captions.str.extract(r"\b(image|picture|photo|snapshot)\b")[0])
    assert abs(table / len(captions) - 1 / 8).to_numpy().max() < 0.02


def test_aligned_captions_name_no_domain_and_share_the_rest_of_the_sentence():
    index = make_index({domain: [30, 30] for domain in DOMAINS}, 0)
    captions = make_captions(index, seed=3)
    own = "|".join(noun for pair in DOMAIN_NOUNS.values() for noun in pair)
    assert not captions["aligned"].str.contains(rf"\b(?:{own})\b").any()
    half = captions["standard"].str.contains(rf"\b(?:{own})\b").mean()
    assert 0.35 < half < 0.65
    any_noun = rf"\b(?:an? )?(?:{own}|image|picture)\b"
    assert [re.sub(any_noun, "N", text) for text in captions["standard"]] == [
        re.sub(any_noun, "N", text) for text in captions["aligned"]
    ]


def test_a_caption_hangs_on_seed_and_key_alone():
    index = make_index({domain: [5, 5, 5] for domain in DOMAINS})
    whole = make_captions(index, seed=1).set_index("key")
    shuffled = make_captions(index.sample(frac=1, random_state=0), seed=1).set_index("key")
    part = make_captions(index[index["domain"] == "sketch"], seed=1).set_index("key")
    pd.testing.assert_frame_equal(shuffled.loc[whole.index], whole)
    pd.testing.assert_frame_equal(part, whole.loc[part.index])
    assert (make_captions(index, seed=2)["standard"].to_numpy() != whole["standard"].to_numpy()).mean() > 0.5


def test_captions_stay_what_they_were():
    """A change here would make every trained model another one."""
    captions = make_captions(index_of("quickdraw", "lion", 4), seed=42)
    assert captions["standard"].tolist() == [
        "a lion quickdraw",
        "a lion depicted in a quickdraw.",
        "a doodle showing a lion",
        "a lion depicted in a picture",
    ]
    assert captions["aligned"].tolist() == [
        "a lion picture",
        "a lion depicted in an image.",
        "a picture showing a lion",
        "a lion depicted in an image",
    ]


def test_underscores_are_blanks_and_capitals_stay():
    captions = make_captions(index_of("real", "The_Eiffel_Tower", 50), seed=0)
    assert captions["standard"].str.contains("The Eiffel Tower").all()
    assert not captions["standard"].str.contains("a The").any()


def test_a_domain_of_the_users_own_is_named_by_its_name():
    captions = make_captions(index_of("oil_pastel", "lion", 300), seed=0)
    assert captions["standard"].str.contains("an oil pastel").any()
    assert not captions["aligned"].str.contains("pastel").any()


def test_awkward_text_survives_the_file(tmp_path):
    names = ['say "hi"', "tab\there", "two\nlines", "NA", "null", "a,b;c", "\u732b", " blanks "]
    index = pd.DataFrame({"key": [f"k{i}" for i in range(8)], "domain": "real", "class": names})
    captions = make_captions(index, seed=0)
    again = save(tmp_path, captions)
    assert list(again.columns) == ["key", "standard", "aligned"]
    for column in again:
        assert again[column].tolist() == captions[column].tolist()
    assert all(name in text for name, text in zip(names, again["standard"], strict=True))


def test_no_rows_give_no_captions():
    empty = make_captions(index_of("real", "lion", 1).iloc[:0], seed=0)
    assert list(empty.columns) == ["key", "standard", "aligned"] and empty.empty


def test_a_sample_without_a_class_is_named():
    index = index_of("real", "lion", 3)
    index.loc[1, "class"] = None
    with pytest.raises(DataError, match="real/lion/1"):
        make_captions(index, seed=0)


def test_a_key_that_stands_twice_is_named():
    index = pd.concat([index_of("real", "lion", 2), index_of("real", "lion", 1)])
    with pytest.raises(DataError, match="'real/lion/0' stands twice"):
        make_captions(index, seed=0)


def test_a_sample_without_a_domain_is_named():
    index = index_of("real", "lion", 3)
    index.loc[2, "domain"] = None
    with pytest.raises(DataError, match="'real/lion/2' has no domain"):
        make_captions(index, seed=0)


def test_equal_captions_make_equal_files(tmp_path):
    index = make_index({domain: [3, 4] for domain in DOMAINS})
    for name in ("a", "b"):
        save(tmp_path / name, make_captions(index, seed=7))
    assert (tmp_path / "a/captions.parquet").read_bytes() == (tmp_path / "b/captions.parquet").read_bytes()


def test_groups_make_no_difference(monkeypatch):
    index = pd.concat([make_index({domain: [3, 4] for domain in DOMAINS}), index_of("real", "lion", 200)])
    whole = make_captions(index, seed=7)
    monkeypatch.setattr("domix.data.captions.captions.GROUP", 5)
    monkeypatch.setattr("domix.data.captions.streams.BLOCK", 4)
    pd.testing.assert_frame_equal(make_captions(index, seed=7), whole)


@pytest.mark.parametrize("stream", ["key", "reference"])
def test_articles_hang_on_no_stream(stream):
    index = make_index({domain: [40] for domain in DOMAINS}, classes=["axe"])
    right = make_captions(index, seed=1, stream=stream)
    reference = make_captions(index, seed=1, stream=stream, articles="reference")
    for column in ("standard", "aligned"):
        assert right[column].str.replace("an axe", "a axe").tolist() == reference[column].tolist()
        assert reference[column].str.contains("a axe").all()


@pytest.mark.parametrize("stream", ["key", "reference"])
def test_sketches_of_imagenet_draw_evenly_from_21_patterns(stream):
    captions = make_captions(index_of(SKETCHES, "eel", 21_000), seed=0, stream=stream)
    assert abs(captions["standard"].str.endswith(".").mean() - 0.5) < 0.02
    shares = captions["standard"].str.rstrip(".").value_counts(normalize=True)
    assert len(shares) == 21 and abs(shares - 1 / 21).max() < 0.01
    aligned = captions["standard"].str.replace("a (drawing|sketch)", "an image", regex=True)
    assert aligned.str.replace("drawing|sketch", "image", regex=True).tolist() == captions["aligned"].tolist()


def test_only_the_wanted_keys_are_given_in_the_order_wanted():
    index = make_index({domain: [3, 4] for domain in DOMAINS})
    whole = make_captions(index, seed=7, stream="reference").set_index("key")
    keys = index["key"].sample(frac=0.6, random_state=0)
    some = make_captions(index, seed=7, stream="reference", keys=keys)
    assert some["key"].tolist() == keys.tolist()
    pd.testing.assert_frame_equal(some.set_index("key"), whole.loc[keys])


def test_a_wanted_key_that_no_list_has_is_named():
    index = index_of("real", "lion", 3)
    keys = pd.Series(["real/lion/0", "real/lion/7", "real/lion/8"])
    with pytest.raises(DataError, match=r"2 of 3 samples, 'real/lion/7' the first, are not in the source's lists"):
        make_captions(index, seed=0, stream="reference", keys=keys)


TEXTS = [
    "NA",
    "null",
    "",
    '"quoted',
    "tab\there",
    "two\nlines",
    "\U0001f600 emoji",
    " blanks ",
    "None",
    "nan",
    "a\rb",
    "\\N",
]


def own(keys: list[str], texts: Mapping[str, str | None], folder: Path) -> pd.DataFrame:
    return save(folder, own_captions(pd.Series(keys), save_texts(folder, texts.keys(), texts.values())))


def save_texts(folder: Path, keys: Iterable[str], texts: Iterable[str | None]) -> Path:
    """Write texts as pack does."""
    table = pd.DataFrame({"key": list(keys), "text": list(texts)}).astype("str")
    write_table(folder / "texts.parquet", table)
    return folder / "texts.parquet"


def test_texts_that_samples_bring_are_their_captions(tmp_path):
    texts = {f"k{number}": text for number, text in enumerate(TEXTS)}
    captions = own(list(texts), texts, tmp_path)
    assert captions["key"].tolist() == list(texts)
    assert captions["standard"].tolist() == captions["aligned"].tolist() == TEXTS


def test_texts_may_stand_in_another_order_and_be_too_many(tmp_path, monkeypatch):
    monkeypatch.setattr("domix.data.captions.captions.GROUP", 3)
    texts = {f"k{number}": text for number, text in enumerate(TEXTS)}
    keys = ["k7", "k0", "k11", "k3", "k2"]
    captions = own(keys, texts, tmp_path)
    assert captions["key"].tolist() == keys
    assert captions["standard"].tolist() == captions["aligned"].tolist() == [texts[key] for key in keys]


@pytest.mark.parametrize("absent", [{"a": "x"}, {"a": "x", "b": None, "c": None}, {}])
def test_samples_without_a_text_are_counted_and_the_first_named(absent, tmp_path):
    keys = ["a", "b", "c"] if absent else ["b", "c"]
    with pytest.raises(DataError, match=rf"2 of {len(keys)} samples, 'b' the first, have no caption"):
        own(keys, absent, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["texts.parquet"]


def test_two_texts_of_one_sample_are_an_error(tmp_path):
    path = save_texts(tmp_path, ["a", "a", "b"], ["x", "y", "z"])
    with pytest.raises(DataError, match="1 keys stand twice"):
        list(own_captions(pd.Series(["a", "b"]), path))


def test_no_samples_give_an_empty_file(tmp_path):
    empty = pd.Series([], dtype="str")
    assert save(tmp_path, own_captions(empty, save_texts(tmp_path, [], []))).empty
