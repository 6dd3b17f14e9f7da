"""Data sets, one module each: which files they consist of, and which samples these hold.

A source's files lie in one folder, its root: the store that fetch downloads into, or any folder of the user's. Nothing
is ever unpacked: a source divides its samples into parts, and each part reads its own straight from the archives, in
whatever process or on whatever machine packs it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from domix.runtime.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd

NO_LABEL = -1
LISTING = ("key", "path", "domain", "class", "label", "split")  # columns of Source.listing
SPLITS = ("train", "test")


@dataclass(frozen=True)
class RawSample:
    """A sample before its image is decoded.

    Attributes:
        key: unique in the source and stable; no dot in its last part (see data/store/shards.py).
        domain: visual style; a source of one style, or of unknown ones, has its own name here.
        class_name, label: the class as text, with blanks, and its number; None and NO_LABEL where it has none.
        split: train or test.
        data: the image file's bytes.
        text: a caption of its own, if it brings one; then every sample of the source has one.
        drawing: the key without the pose.
        pose: 0 for the image as it is, else the number of a seeded pose of it.
        border: pixels that are cut off at each side before anything else.
    """

    key: str
    domain: str
    class_name: str | None
    label: int
    split: str
    data: bytes
    text: str | None = None
    drawing: str = ""
    pose: int = 0
    border: int = 0


class Part(Protocol):
    """Some consecutive samples of a source, which one process reads and packs into one shard: small and picklable."""

    def samples(self) -> Iterator[RawSample]:
        """Yield the samples in index order, reading their bytes one by one.

        Raises:
            DataError: an archive is missing or damaged, or does not hold what the part was told.
        """


class Source(Protocol):
    """A data set."""

    def files(self, root: Path) -> list[str]:
        """Return the files and folders below `root` that the source reads, as relative paths.

        Raises:
            DataError: something that it needs is not there; the sentence says what, and where it is to be had.
        """

    def parts(self, root: Path, *, size: int, poses: int) -> Sequence[Part]:
        """Divide all samples, in index order, into parts of at most about `size` samples.

        Args:
            root: folder of the files.
            size: samples a part.
            poses: poses of each training drawing; only the bundled set has any.

        Raises:
            DataError: lists and archives do not fit together.
        """

    def listing(self, root: Path, *, poses: int) -> pd.DataFrame | None:
        """Return the columns LISTING of all samples in index order, good and bad images alike, without reading any.

        None: the samples bring captions of their own, so that nobody needs to know them in advance.
        """


@runtime_checkable
class Answering(Protocol):
    """A source of classes of its own that names, for each of them, ImageNet's classes which it takes for right."""

    def answers(self, root: Path) -> list[list[int]]:
        """Return for each label, in order, the labels of ImageNet-1k that are right.

        Raises:
            DataError: the mapping is missing or damaged.
        """


def registry() -> dict[str, Callable[[], Source]]:
    """Return the sources that Domix knows by name. Adding one: docs/adding-a-source.md."""
    from domix.data.sources.corpus import Corpus
    from domix.data.sources.domainnet import DomainNet
    from domix.data.sources.emoji import Emoji
    from domix.data.sources.folder import Tree
    from domix.data.sources.imagenet import ImageNet
    from domix.data.sources.imagenet_captions import ImageNetCaptions
    from domix.data.sources.imagenet_sketch import ImageNetSketch
    from domix.data.sources.imagenet_variants import LAYOUTS, ImageNetVariant
    from domix.data.sources.objectnet import ObjectNet

    return {
        "emoji": Emoji,
        "domainnet": DomainNet,
        "imagenet": ImageNet,
        "imagenet-captions": ImageNetCaptions,
        "imagenet-sketch": ImageNetSketch,
        **{name: partial(ImageNetVariant, name) for name in LAYOUTS},
        "objectnet": ObjectNet,
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
    raise ParameterError(f"unknown source {name!r}: {hint} (a folder of your own needs its path in fetch.paths.{name})")


_UNFIT = re.compile(r"[^\w/\- ]")


def sample_key(path: str) -> str:
    """Make a sample's key of its relative path: without the extension, dots and other unfit characters as `_`."""
    stem, dot, extension = path.rpartition(".")
    return _UNFIT.sub("_", stem if dot and "/" not in extension else path)
