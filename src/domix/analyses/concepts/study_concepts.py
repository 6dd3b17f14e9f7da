"""The concepts that a study's own images show, which need no download: kinds of objects, domains, dominant colours.

Kinds are the groups and subgroups of the source's classes where they are shipped (groups/<source>.json; of the bundled
emoji those of OpenMoji, https://openmoji.org); of other sources each class is a kind of its own.

Shapes: N images, C concepts, K categories.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from domix.data.store.images import BadImage, decode
from domix.data.store.shards import ShardReader
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.signature.colours import dominant_colour
from domix.signature.concepts import ConceptSet

GROUPS = Path(__file__).with_name("groups")


def study_concepts(rows: pd.DataFrame, shards: Path) -> ConceptSet:
    """Return the concepts of images of a packed source, in the categories group, subgroup (or class), domain, colour.

    Args:
        rows: of the images, with the columns row, key, class, domain.
        shards: the packed source, named as the source.

    Raises:
        DataError: an image cannot be read.
    """
    kinds = class_kinds(shards.name) or {"class": {name: name for name in rows["class"]}}
    named: dict[str, list[str | None]] = {
        category: [kind.get(name) for name in rows["class"]] for category, kind in kinds.items()
    }
    return one_each({**named, "domain": list(rows["domain"]), "colour": colours_of(rows, shards)})


def class_kinds(source: str) -> dict[str, dict[str, str]]:
    """Return the group and subgroup of each class of a source, by category; nothing where none are shipped."""
    path = GROUPS / f"{source}.json"
    if not path.is_file():
        return {}
    known = [(group, sub, name) for group, subs in read_json(path).items() for sub in subs for name in subs[sub]]
    return {"group": {name: group for group, _, name in known}, "subgroup": {name: sub for _, sub, name in known}}


def colours_of(rows: pd.DataFrame, shards: Path) -> list[str]:
    """Return the dominant colour of each image.

    Raises:
        DataError: an image cannot be read.
    """
    found = []
    with ShardReader(shards) as reader:
        for row, key in zip(rows["row"].tolist(), rows["key"], strict=True):
            try:
                found.append(dominant_colour(np.asarray(decode(reader.read(row)))))
            except BadImage as error:
                raise DataError(f"the packed image {key} has no colours ({error.reason})", remake=shards) from error
    return found


def one_each(named: Mapping[str, Sequence[str | None]]) -> ConceptSet:
    """Return the concepts of images that show at most one of each category.

    Args:
        named: by category, the concept of each image [N]; None: nothing is known of it, it is not annotated.
    """
    names: list[str] = []
    category: list[int] = []
    shown: list[np.ndarray] = []
    for place, of_images in enumerate(named.values()):
        values = np.array(of_images, dtype=object)
        mine = _in_order(of_images)
        names += mine
        category += [place] * len(mine)
        shown += [values == name for name in mine]
    annotated = np.stack([np.array([name is not None for name in each]) for each in named.values()], axis=1)
    return ConceptSet(tuple(names), np.array(category), tuple(named), np.stack(shown, axis=1).astype(bool), annotated)


def _in_order(names: Iterable[str | None]) -> list[str]:
    return sorted({name for name in names if name is not None})
