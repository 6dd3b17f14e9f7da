"""The sources that Domix knows by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from domix.data.sources.cifar import LAYOUTS as CIFAR
from domix.data.sources.cifar import Cifar
from domix.data.sources.contract import Source
from domix.data.sources.corpus import Corpus
from domix.data.sources.domainnet import DomainNet
from domix.data.sources.emoji import Emoji, EmojiOod
from domix.data.sources.folder import Tree
from domix.data.sources.image_sets import LAYOUTS as IMAGE_SETS
from domix.data.sources.image_sets import ImageSet
from domix.data.sources.imagenet import ImageNet
from domix.data.sources.imagenet_captions import ImageNetCaptions
from domix.data.sources.imagenet_sketch import ImageNetSketch
from domix.data.sources.imagenet_variants import LAYOUTS, ImageNetVariant
from domix.data.sources.objectnet import ObjectNet
from domix.runtime.errors import ParameterError


def registry() -> dict[str, Callable[[], Source]]:
    """Return the sources that Domix knows by name. Adding one: docs/adding-a-source.md."""
    return {
        "emoji": Emoji,
        "emoji-ood": EmojiOod,
        "domainnet": DomainNet,
        "imagenet": ImageNet,
        "imagenet-captions": ImageNetCaptions,
        "imagenet-sketch": ImageNetSketch,
        **{name: partial(ImageNetVariant, name) for name in LAYOUTS},
        "objectnet": ObjectNet,
        **{name: partial(Cifar, name) for name in CIFAR},
        **{name: partial(ImageSet, name) for name in IMAGE_SETS},
        "cc3m": partial(Corpus, "cc3m"),
        "cc12m": partial(Corpus, "cc12m"),
        "folder": Tree,
    }


def get_source(name: str, *, has_folder: bool = False) -> Source:
    """Return a data set by its name.

    Args:
        name: one of the registry, or any other word if `has_folder`.
        has_folder: the user has said in which folder the files of `name` lie; a name that is not known then means a
            tree `<domain>/<class>/<file>`.

    Raises:
        ParameterError: there is no source of this name.
    """
    sources = registry()
    if name in sources or has_folder:
        return sources[name if name in sources else "folder"]()
    near = difflib.get_close_matches(name, sources, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sources)}"
    raise ParameterError(f"unknown source {name!r}: {hint} (a folder of your own needs its path)", argument="name")
