"""Data sets, one module each: how raw files are obtained and verified, and which samples they hold."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from domix.runtime.errors import DataError


@dataclass(frozen=True)
class RawSample:
    """A sample before its picture is decoded.

    Attributes:
        key: unique in the source and stable: `<domain>/<class directory>/<file stem>`, with a suffix for poses.
        domain, class_name, label: the class as text, with blanks.
        split: train or test.
        data: the picture file's bytes.
        drawing: the key without the pose.
        pose: 0 for the picture as it is, else the number of a seeded pose of it.
    """

    key: str
    domain: str
    class_name: str
    label: int
    split: str
    data: bytes
    drawing: str
    pose: int = 0


class Source(Protocol):
    """A data set."""

    def fetch(self, path: Path, out: Path) -> None:
        """Bring the raw files, which lie in the folder `path`, into the empty folder `out`, and verify them."""

    def samples(self, raw: Path, *, poses: int) -> Iterator[RawSample]:
        """Yield the samples of the raw files in index order: domain by domain, training then test.

        Within a training cell, any beginning shows as many different drawings as it can.
        """


def get_source(name: str) -> Source:
    """Return a data set by its name.

    Raises:
        DataError: there is none of this name.
    """
    from domix.data.sources.emoji import Emoji

    sources: dict[str, type[Source]] = {"emoji": Emoji}
    if name not in sources:
        near = difflib.get_close_matches(name, sources, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sources)}"
        raise DataError(f"unknown source {name!r}: {hint}")
    return sources[name]()
