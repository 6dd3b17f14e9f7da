"""Captions: the study's sentences, right articles, one random stream a key, and text that survives its file."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from domix.data.captions import DOMAIN_NOUNS, GENERIC_NOUNS, make_captions, nouns, with_article
from domix.runtime.errors import DataError
from domix.runtime.tables import read_table, write_table
from tests.fakes import DOMAINS, make_index


def index_of(domain: str, name: str, count: int) -> pd.DataFrame:
    keys = [f"{domain}/{name}/{i}" for i in range(count)]
    return pd.DataFrame({"key": keys, "domain": domain, "class": name})


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


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("axe", "an axe"),
        ("lion", "a lion"),
        ("hourglass", "an hourglass"),
        ("house", "a house"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("unlocked", "an unlocked"),
        ("one piece swimsuit", "a one piece swimsuit"),
        ("onion", "an onion"),
        ("euro banknote", "a euro banknote"),
        ("ewe", "a ewe"),
        ("eight oclock", "an eight oclock"),
        ("The Eiffel Tower", "The Eiffel Tower"),
        ("the mona lisa", "the mona lisa"),
        ("theatre", "a theatre"),
        ("art", "art"),
        ("artist palette", "an artist palette"),
        ("informational chart", "an informational chart"),
        ("8 ball", "an 8 ball"),
        ("x-ray", "an x-ray"),
        ("urn", "an urn"),
    ],
)
def test_articles_follow_the_sound(noun, expected):
    assert with_article(noun) == expected


def test_underscores_are_blanks_and_capitals_stay():
    captions = make_captions(index_of("real", "The_Eiffel_Tower", 50), seed=0)
    assert captions["standard"].str.contains("The Eiffel Tower").all()
    assert not captions["standard"].str.contains("a The").any()


def test_a_domain_of_the_users_own_is_named_by_its_name():
    assert nouns("oil_pastel") == ("image", "picture", "oil pastel")
    captions = make_captions(index_of("oil_pastel", "lion", 300), seed=0)
    assert captions["standard"].str.contains("an oil pastel").any()
    assert not captions["aligned"].str.contains("pastel").any()


def test_awkward_text_survives_the_file(tmp_path):
    names = ['say "hi"', "tab\there", "two\nlines", "NA", "null", "a,b;c", "\u732b", " blanks "]
    index = pd.DataFrame({"key": [f"k{i}" for i in range(8)], "domain": "real", "class": names})
    captions = make_captions(index, seed=0)
    write_table(tmp_path / "captions.parquet", captions)
    again = read_table(tmp_path / "captions.parquet")
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


def test_equal_captions_make_equal_files(tmp_path):
    index = make_index({domain: [3, 4] for domain in DOMAINS})
    for name in ("a", "b"):
        write_table(tmp_path / name, make_captions(index, seed=7))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
