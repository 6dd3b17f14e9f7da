"""The bundled picture set `emoji`: drawings of 850 objects in six styles (bundled/emoji/NOTICE.md).

There is one drawing an artist, object and style, too few to divide. A test picture is a drawing as drawn; the training
pictures are seeded poses of the drawings. What a mixture withholds is withheld in every pose.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

from domix.data.archive import copy_verified
from domix.data.sources import RawSample
from domix.data.sources.layout import SPLITS, DomainNetLayout, Line


class Emoji:
    """The bundled set, or any other of few drawings in DomainNet's layout with a manifest."""

    def fetch(self, path: Path, out: Path) -> None:
        """Copy and verify what the manifest names.

        Raises:
            DataError: a file is missing or is not what the manifest says.
        """
        copy_verified(path, out)

    def samples(self, raw: Path, *, poses: int) -> Iterator[RawSample]:
        """Yield `poses` poses of every drawing for training, and every drawing as it is for testing.

        Within a training cell all first poses come first, in list order, then all second ones: a prefix of a cell
        shows as many artists as it can.

        Raises:
            DataError: lists and archives do not fit together.
        """
        with DomainNetLayout(raw) as layout:
            for domain, split in itertools.product(layout.domains, SPLITS):
                numbers = range(1, poses + 1) if split == "train" else (0,)
                for _, cell in itertools.groupby(layout.lines(domain, split), key=lambda line: line.label):
                    for number, line in itertools.product(numbers, list(cell)):
                        yield _sample(domain, split, line, number, layout.read(domain, line))


def _sample(domain: str, split: str, line: Line, number: int, data: bytes) -> RawSample:
    return RawSample(
        key=f"{line.key}-pose{number}" if number else line.key,
        domain=domain,
        class_name=line.class_name,
        label=line.label,
        split=split,
        data=data,
        drawing=line.key,
        pose=number,
    )
