"""Data sets that have some of ImageNet-1k's classes: which ones.

resources/imagenet_subsets.json   by the name of a data set that has 200 of them, their wnids
answers.json in a packed source's folder  of a source with classes of its own, for each of them the labels of
                                          ImageNet-1k that mean the same (data/sources, Answering)
"""

from __future__ import annotations

import functools
import json
from importlib import resources

from domix.data.classes.imagenet import imagenet_classes

ANSWERS = "answers.json"


@functools.cache
def subset_wnids() -> dict[str, tuple[str, ...]]:
    """Return the wnids by the name of the data set, rising."""
    path = resources.files("domix.data.classes") / "resources/imagenet_subsets.json"
    return {name: tuple(wnids) for name, wnids in json.loads(path.read_text(encoding="utf-8")).items()}


def subset_labels(name: str) -> list[int] | None:
    """Return the labels of the classes that a data set has, rising; None: it is not one of these sets."""
    wnids = subset_wnids().get(name)
    return None if wnids is None else [imagenet_classes()[wnid].label for wnid in wnids]
