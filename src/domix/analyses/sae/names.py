"""Names of units: of all words in a vocabulary the one whose text embedding points most as the unit does.

The vocabulary are the study's classes and domains, and a shipped list of words for looks and kinds of things. Units of
the image embedding alone have names, for their directions lie where the text embeddings do (Rao et al. 2024).

Shapes: V words, D embedding, F units.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domix.data.classes.names import class_text
from domix.embed.prompts import render_prompts
from domix.embed.text_tower import class_prototypes
from domix.model.checkpoint import load_model
from domix.model.clip import tokenizer

WORDS = Path(__file__).with_name("words.txt")


def vocabulary(classes: Sequence[str], domains: Sequence[str]) -> list[str]:
    """Return the words, each once: classes as they are read, domains, then the shipped ones."""
    shipped = WORDS.read_text(encoding="utf-8").split("\n")
    return list(dict.fromkeys([*map(class_text, classes), *map(class_text, domains), *filter(None, shipped)]))


def embed_words(model: Path, words: Sequence[str], template: str, *, device: str = "cpu") -> NDArray[np.float32]:
    """Return the text embeddings [V, D] of words in a template, by the model of a folder.

    Raises:
        DataError: a file of the model is missing or damaged, or an embedding is not finite.
        ParameterError: the template has no {}.
    """
    clip, config = load_model(model)
    prompts = render_prompts([template], list(words))
    return class_prototypes(clip, tokenizer(config["model"]), prompts, device=device)


def name_units(
    directions: NDArray[np.float32], embeddings: NDArray[np.float32], words: Sequence[str]
) -> tuple[list[str], NDArray[np.float64]]:
    """Return each unit's word and its cosine [F], of directions [D, F] and the words' embeddings [V, D]."""
    units = directions / np.maximum(np.linalg.norm(directions, axis=0, keepdims=True), 1e-12)
    texts = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    cosines = texts.astype(np.float64) @ units.astype(np.float64)
    best = cosines.argmax(axis=0)
    return [words[place] for place in best], cosines.max(axis=0)
