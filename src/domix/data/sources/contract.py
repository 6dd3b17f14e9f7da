"""What a source is: its files, its parts, its samples.

A source's files lie in one folder, its root: the store that fetch downloads into, or any folder of the user's. Nothing
is ever unpacked: a source divides its samples into parts, and each part reads its own straight from the archives, in
whatever process or on whatever machine packs it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

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


@runtime_checkable
class Grouped(Protocol):
    """A source made to be foreign to another, whose classes are nearer to that one's or farther from them."""

    def groups(self, root: Path) -> dict[str, str]:
        """Return the group of each class, near or far (see data/classes/ood_groups.py).

        Raises:
            DataError: the list of classes is missing or damaged.
        """


_UNFIT = re.compile(r"[^\w/\- ]")


def sample_key(path: str) -> str:
    """Make a sample's key of its relative path: without the extension, dots and other unfit characters as `_`.

    It is in Unicode's form NFC, so that a file has the same key on every system. Marks that no letter has taken in, as
    Devanagari's vowels, belong to their letters.
    """
    stem, dot, extension = path.rpartition(".")
    key = unicodedata.normalize("NFC", stem if dot and "/" not in extension else path)
    return _UNFIT.sub(lambda found: found[0] if unicodedata.category(found[0])[0] == "M" else "_", key)
