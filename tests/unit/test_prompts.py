"""Prompts: the study's template sets in its order, or the user's own sentences."""

from __future__ import annotations

import pytest
from open_clip import OPENAI_IMAGENET_TEMPLATES

from domix.embed.prompts import SETS, render_prompts, templates
from domix.embed.settings import TEMPLATE_SETS
from domix.runtime.errors import ParameterError


def rendered(spec: str | list[str]) -> list[str]:
    return render_prompts(spec, ["lion"])[0]


def test_the_studys_set_is_openais_eighty_and_six_domains_more():
    prompts = render_prompts("clip", ["lion", "The Eiffel Tower"])
    assert [len(row) for row in prompts] == [86, 86]
    assert prompts[0][0] == "a bad photo of a lion."
    assert prompts[0][79] == "a tattoo of the lion."
    assert prompts[0][80:] == [
        "a clipart of the lion.",
        "a clipart of a lion.",
        "an infograph of the lion.",
        "an infograph of a lion.",
        "a quickdraw of the lion.",
        "a quickdraw of a lion.",
    ]
    assert all("The Eiffel Tower" in prompt for prompt in prompts[1])
    assert len(set(prompts[0])) == 86


def test_openais_set_is_open_clips_in_its_order():
    assert rendered("openai") == [template("lion") for template in OPENAI_IMAGENET_TEMPLATES]
    assert rendered("clip")[:80] == rendered("openai")


def test_the_domains_templates_are_the_references_ten():
    """Its option --domain_invariant keeps two of each of five domains."""
    assert rendered("domain-only") == [
        "a painting of the lion.",
        "a painting of a lion.",
        "a sketch of a lion.",
        "a sketch of the lion.",
        "a clipart of the lion.",
        "a clipart of a lion.",
        "an infograph of the lion.",
        "an infograph of a lion.",
        "a quickdraw of the lion.",
        "a quickdraw of a lion.",
    ]


def test_domain_free_is_the_complement_in_order():
    domain = set(rendered("domain-only"))
    assert rendered("domain-free") == [prompt for prompt in rendered("clip") if prompt not in domain]
    assert len(rendered("domain-free")) == 76


def test_the_five_templates_of_plp_in_its_order():
    assert rendered("plp") == [
        "a photo of a lion.",
        "a blurry photo of a lion.",
        "a photo of many lion.",
        "a photo of the large lion.",
        "a photo of the small lion.",
    ]


def test_a_class_that_is_called_as_a_domain_changes_no_set():
    assert len(render_prompts("domain-only", ["sketch pad"])[0]) == 10
    assert len(render_prompts("domain-free", ["paintings"])[0]) == 76


def test_one_template_of_the_users_own():
    assert render_prompts("a {style} of {}!", ["lion", "axe"]) == [["a {style} of lion!"], ["a {style} of axe!"]]


def test_several_templates_of_the_users_own_in_their_order():
    assert rendered(["{} on a table", "clip {}"]) == ["lion on a table", "clip lion"]


@pytest.mark.parametrize("spec", ["imagenet", ["a photo of a {}", "imagenet"], ["clip"]])
def test_other_words_are_refused(spec: str | list[str]):
    with pytest.raises(
        ParameterError, match=r"one of clip, openai, domain-only, domain-free, plp, or sentences"
    ) as caught:
        templates(spec)
    assert repr("clip" if spec == ["clip"] else "imagenet") in str(caught.value)


def test_no_sentence_at_all_is_refused():
    with pytest.raises(ParameterError, match=r"^templates is empty") as caught:
        templates([])
    assert caught.value.argument == "templates"


def test_the_parameters_know_the_same_sets():
    assert SETS == TEMPLATE_SETS
