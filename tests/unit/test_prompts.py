"""Prompts: 86 templates in the study's order, or the user's own."""

from __future__ import annotations

import pytest

from domix.evaluate.prompts import render_prompts, templates
from domix.runtime.errors import ParameterError


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


def test_one_template_of_the_users_own():
    assert render_prompts("a {style} of {}!", ["lion", "axe"]) == [["a {style} of lion!"], ["a {style} of axe!"]]


def test_other_words_are_refused():
    with pytest.raises(ParameterError, match="'openai'"):
        templates("openai")
