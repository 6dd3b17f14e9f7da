"""Sentences: articles by sound or as in the reference, nouns of any domain, ImageNet-Sketch's patterns."""

from __future__ import annotations

import pytest

from domix.data.captions.patterns import (
    DOMAIN_NOUNS,
    SKETCHES,
    Articles,
    make_sentence,
    nouns,
    templates,
    with_article,
)

REFERENCE_NOUNS = {
    "an": ["image", "illustration", "infograph", "informational chart"],
    "a": ["picture", "clipart", "painting", "quickdraw", "doodle", "photo", "snapshot", "sketch", "drawing"],
}


def sentences(
    domain: str, name: str, *, articles: Articles = "right", aligned: bool = False, noun: str = ""
) -> list[str]:
    patterns = templates(domain, aligned=aligned).patterns
    return [make_sentence(each, noun, name, stop=False, articles=articles) for each in patterns]


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


@pytest.mark.parametrize(("article", "words"), REFERENCE_NOUNS.items())
def test_the_references_nouns_have_the_references_articles(article, words):
    assert [with_article(word) for word in words] == [f"{article} {word}" for word in words]
    assert with_article("art") == "art"


def test_a_domain_of_the_users_own_is_named_by_its_name():
    assert nouns("oil_pastel") == ("image", "picture", "oil pastel")


def test_photographs_of_imagenet_are_called_photographs():
    assert nouns("imagenet") == nouns("real")


def test_class_articles_are_a_switch():
    right = sentences("painting", "axe", noun="art")
    assert right == [
        "art of an axe",
        "an axe art",
        "art depicting an axe",
        "an axe depicted in art",
        "art showing an axe",
        "an axe is visible in art",
    ]
    assert sentences("painting", "axe", noun="art", articles="reference") == [
        text.replace("an axe", "a axe") for text in right
    ]
    assert sentences("clipart", "The Eiffel Tower", noun="clipart")[3] == "The Eiffel Tower depicted in a clipart"
    assert (
        sentences("clipart", "The Eiffel Tower", noun="clipart", articles="reference")[3]
        == "a The Eiffel Tower depicted in a clipart"
    )


def test_sketches_have_the_studys_21_patterns():
    assert sentences(SKETCHES, "eel", articles="reference") == [
        "eel",
        "a eel",
        "the eel",
        "eel drawing",
        "drawing of a eel",
        "drawing of the eel",
        "a eel drawing",
        "a drawing of a eel",
        "a drawing of the eel",
        "eel sketch",
        "sketch of a eel",
        "sketch of the eel",
        "a eel sketch",
        "a sketch of a eel",
        "a sketch of the eel",
        "eel image",
        "image of a eel",
        "image of the eel",
        "a eel image",
        "an image of a eel",
        "an image of the eel",
    ]


def test_sketches_have_right_articles_too():
    right = sentences(SKETCHES, "eel")
    assert right == [text.replace("a eel", "an eel") for text in sentences(SKETCHES, "eel", articles="reference")]
    assert all("the The" not in text and "a The" not in text for text in sentences(SKETCHES, "The Mona Lisa"))
    assert "a drawing of The Mona Lisa" in sentences(SKETCHES, "The Mona Lisa")


def test_aligned_sketches_say_image_and_are_else_the_same():
    standard, aligned = sentences(SKETCHES, "eel"), sentences(SKETCHES, "eel", aligned=True)
    assert len(standard) == len(aligned) == 21
    swapped = [
        text.replace("a drawing", "an image").replace("a sketch", "an image").replace("drawing", "image")
        for text in standard
    ]
    assert aligned == [text.replace("sketch", "image") for text in swapped]


@pytest.mark.parametrize("domain", [*DOMAIN_NOUNS, SKETCHES, "oil_pastel"])
def test_aligned_templates_share_the_patterns_numbers(domain):
    assert len(templates(domain, aligned=True).patterns) == len(templates(domain, aligned=False).patterns)


def test_a_full_stop_is_the_last_thing():
    assert make_sentence("{a_class} {noun}", "photo", "lion", stop=True, articles="right") == "a lion photo."


@pytest.mark.parametrize("name", ["{noun}", "{0}", "}{", "%s", "a\\nb", '"', "\t", ""])
def test_a_class_may_look_like_a_pattern(name):
    sentence = make_sentence("{a_noun} of {a_class}", "photo", name, stop=False, articles="reference")
    assert sentence == f"a photo of a {name}"
