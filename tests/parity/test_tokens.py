"""Tokens made word by word are the tokenizer's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip import SimpleTokenizer

from domix.embed.prompts import render_prompts
from domix.model.tokens import tokenise

TEXTS = [
    "",
    " ",
    "a photo of a t-shirt.",
    "The Eiffel Tower",
    "  blanks \t between\nlines ",
    "it's they'll we'd 123 4x4 !?... _under_score_",
    "rock &amp; roll, &lt;tag&gt; & more",
    "naïve café, “curly quotes”, ﬁsh",
    "犬 a dog 🐶",
    "a <end_of_text> in the middle <start_of_text>",
    "control \x1b[31mred\x1b[0m \x00 characters",
    "word " * 100,
]


@pytest.mark.parametrize("options", [{}, {"context_length": 16}, {"clean": "canonicalize"}, {"clean": "whitespace"}])
def test_awkward_texts(options: dict) -> None:
    tokenizer = SimpleTokenizer(**options)
    assert torch.equal(tokenise(tokenizer, TEXTS), tokenizer(TEXTS))


def test_all_prompts() -> None:
    names = ["alarm clock", "t-shirt", "8 ball", "The Great Wall of China", "jack-o'-lantern"]
    texts = [text for prompts in render_prompts("clip", names) for text in prompts]
    tokenizer = SimpleTokenizer()
    assert len(texts) == 5 * 86
    assert torch.equal(tokenise(tokenizer, texts), tokenizer(texts))


TOKENIZER = SimpleTokenizer(context_length=12)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
@settings(deadline=None)
def test_any_text(texts: list[str]) -> None:
    assert torch.equal(tokenise(TOKENIZER, texts), TOKENIZER(texts))


def test_a_tokenizer_that_drops_words_is_asked_itself() -> None:
    tokenizer = SimpleTokenizer(context_length=6, reduction_mask="shuffle")
    tokens = tokenise(tokenizer, ["one two three four five six seven eight"])
    assert tokens.shape == (1, 6)
    assert tokens[0, -1] == tokenizer.eot_token_id
