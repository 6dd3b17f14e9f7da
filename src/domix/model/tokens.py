"""Tokens for many similar captions at once.

CLIP's tokenizer repairs Unicode and splits words anew for every caption, about 0.1 ms each; captions made from
templates have few words. Of plain ASCII text each word is therefore split once. The tokens are the tokenizer's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer
    from torch import Tensor

CONTEXT = 77  # CLIP's, where the tokenizer names none


def tokenise(tokenizer: SimpleTokenizer, texts: Sequence[str]) -> Tensor:
    """Return what `tokenizer(texts)` returns, int64 [N, context_length], sooner."""
    import torch

    if tokenizer.reduction_fn is not None:  # drops random words: not ours to imitate
        return tokenizer(list(texts))
    length = tokenizer.context_length or CONTEXT
    words: dict[str, list[int]] = {}
    tokens_NL = np.zeros((len(texts), length), dtype=np.int64)
    for row, text in zip(tokens_NL, texts, strict=True):
        ids = [tokenizer.sot_token_id, *_encode(tokenizer, text, words)][: length - 1]
        row[: len(ids)] = ids
        row[len(ids)] = tokenizer.eot_token_id
    return torch.from_numpy(tokens_NL)


def _encode(tokenizer: SimpleTokenizer, text: str, words: dict[str, list[int]]) -> list[int]:
    """Encode one text, looking up its words where they do not influence each other."""
    # Repairs of Unicode and of HTML entities (&amp;) may look beyond a word; neither touches printable ASCII without &.
    if not (text.isascii() and text.isprintable()) or "&" in text:
        return tokenizer.encode(text)
    ids: list[int] = []
    for word in text.split():  # no token of CLIP's holds a blank
        if word not in words:
            words[word] = tokenizer.encode(word)
        ids += words[word]
    return ids
