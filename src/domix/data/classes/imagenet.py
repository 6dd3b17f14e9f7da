"""The thousand classes of ImageNet-1k, with the texts that CLIP's authors gave them.

resources/imagenet.json: rows [wnid, text] in the order of the wnids, which is the order of the labels. Four
texts are the reference study's instead, so that no two classes share one: 27 eft, 638 maillot, 744 projectile,
836 sunglass.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import NamedTuple


class ImageNetClass(NamedTuple):
    """A class: WordNet id, text, and label from 0 to 999."""

    wnid: str
    text: str
    label: int


@functools.cache
def imagenet_classes() -> dict[str, ImageNetClass]:
    """Return the classes by their wnid, in label order."""
    path = resources.files("domix.data.classes") / "resources/imagenet.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {wnid: ImageNetClass(wnid, text, label) for label, (wnid, text) in enumerate(rows)}
