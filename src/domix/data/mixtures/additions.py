"""ImageNet-Sketch in the place of other samples: sketches of classes that the study does not test.

Does seeing sketches at all, of other classes, help to read sketches of the test classes? K images of ImageNet-Sketch,
of the classes that the multi-domain source lacks, replace samples of that source, so that the total stays:

    +sketches          K samples at random
    +sketches-fiftyp   the test domain's own samples of all but half of its seen classes, and others at random up to K

The draws are the reference study's (Python's generator, seed 42, afresh for each `+sketches` mixture; the grades share
one stream in the order of GRADES, and their classes nest), so that the same split lists give the same samples. One draw
cannot be repeated, because the reference draws from a set of words, whose order changes from one interpreter to the
next: the 17 classes that `thirtyp` has beyond `twentyfivep`. They are drawn here from the classes in alphabetical
order; nothing else hangs on it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from importlib import resources

import numpy as np
import pandas as pd

from domix.data.classes.imagenet import imagenet_classes
from domix.data.mixtures.cells import Cells, Ints, Split
from domix.data.mixtures.recipes import GRADES, SKETCHES, Recipe
from domix.data.mixtures.selection import tsv_order
from domix.runtime.errors import DataError

SOURCE = "imagenet-sketch"
SEED = 42


def shared_classes(names: Sequence[str], *, by_name: bool) -> set[int]:
    """Return the numbers (0 .. 999) of the ImageNet classes that DomainNet's classes `names` stand for.

    Args:
        by_name: add, as the reference does, every class in whose name that of such a class occurs ("sea lion" because
            of "lion", but also "restaurant" because of "ant"): of 550 classes that DomainNet lacks, 514 stay.

    Raises:
        DataError: a class is not DomainNet's.
    """
    text = (resources.files("domix.data.classes") / "resources/domainnet_to_imagenet.json").read_text(encoding="utf-8")
    known: dict[str, list[int]] = json.loads(text)
    numbers: set[int] = set()
    for name in names:
        plain = name.replace("_", " ").lower()
        if plain not in known:
            raise DataError(
                f"sketches of ImageNet cannot be added: which of its classes are {name!r} is known for DomainNet's"
                " classes alone, so leave the '+sketches' mixtures out"
            )
        numbers.update(known[plain])
    if by_name:
        classes = list(imagenet_classes().values())
        words = [classes[number].text for number in numbers]
        numbers |= {one.label for one in classes if any(word in one.text for word in words)}
    return numbers


def unlike_sketches(index: pd.DataFrame, names: Sequence[str], *, by_name: bool) -> Ints:
    """Return the rows of ImageNet-Sketch's training samples whose classes the multi-domain source lacks, rising.

    Args:
        index: ImageNet-Sketch's (columns `row`, `label`, `split`), labels 0 .. 999.
        names: the classes of the multi-domain source.
        by_name: as `shared_classes`.

    Raises:
        DataError: as `shared_classes`; or no sample is left, or one has no label.
    """
    index = index[(index["split"] == "train").to_numpy()]
    label = index["label"].to_numpy(dtype=np.int64)
    if (label < 0).any():
        raise DataError(f"source {SOURCE!r} has samples without a label of ImageNet's", argument="index")
    shared = list(shared_classes(names, by_name=by_name))
    rows = index["row"].to_numpy(dtype=np.int64)[~np.isin(label, shared)]
    if len(rows) == 0:
        raise DataError(f"source {SOURCE!r} holds no training sample of a class that the data lack: nothing to add")
    return np.sort(rows)


def keep_beside(chosen: Ints, count: int, recipe: Recipe, cells: Cells, split: Split) -> Ints:
    """Return those of the `chosen` samples that stay when `count` sketches come, rising.

    Args:
        chosen: positions in `cells.row`.

    Raises:
        DataError: there are too few sketches, or too many.
    """
    ordered = tsv_order(chosen, cells)
    stay = (
        _beside_all(ordered, count, recipe)
        if recipe.sketches == SKETCHES
        else _beside(ordered, count, recipe, cells, split)
    )
    assert len(stay) == len(chosen) - count, "additions must not change a mixture's size"
    return np.sort(stay)


def _beside_all(ordered: Ints, count: int, recipe: Recipe) -> Ints:
    return _without(ordered, _draw(random.Random(SEED), len(ordered), count, recipe))


def _beside(ordered: Ints, count: int, recipe: Recipe, cells: Cells, split: Split) -> Ints:
    """Follow the reference's stream up to the recipe's grade."""
    label = cells.code[ordered] % len(cells.classes)
    mine = cells.code[ordered] // len(cells.classes) == cells.domains.index(split.test_domain)
    own, own_label, others = ordered[mine], label[mine], ordered[~mine]
    stream = random.Random(SEED)
    for grade, classes in _graded_classes(own_label, cells, stream).items():
        stay = own[np.isin(own_label, classes)]
        dropped = count - (len(own) - len(stay))
        if dropped < 0:
            raise DataError(
                f"mixture {recipe.name!r}: {count} sketches of ImageNet do not make up for the {len(own) - len(stay)}"
                f" samples of {split.test_domain!r} that grade {grade} takes away; leave it out"
            )
        gone = _draw(stream, len(others), dropped, recipe)
        if grade == recipe.sketches:
            return np.concatenate([_without(others, gone), stay])
    raise AssertionError(recipe.sketches)


def _graded_classes(label: Ints, cells: Cells, stream: random.Random) -> dict[str, list[int]]:
    """Draw the classes whose own samples stay, grade by grade, from labels in the reference's order of samples."""
    every = list(dict.fromkeys(label.tolist()))
    assert every, "cg-high holds samples of the test domain"
    size = {grade: max(1, int(len(every) * share)) for grade, share in GRADES.items()}
    half = stream.sample(every, size["fiftyp"])
    quarter = stream.sample(half, size["twentyfivep"])
    rest = sorted(set(half) - set(quarter), key=lambda number: cells.classes[number])
    thirty = quarter + stream.sample(rest, size["thirtyp"] - len(quarter))
    drawn = {"fiftyp": half, "twentyfivep": quarter, "thirtyp": thirty}
    pool = quarter
    for grade in ("tenp", "fivep", "onep", "one"):
        pool = stream.sample(pool, size[grade])
        drawn[grade] = pool
    return drawn


def _draw(stream: random.Random, total: int, count: int, recipe: Recipe) -> list[int]:
    if count > total:
        raise DataError(f"mixture {recipe.name!r}: {count} sketches cannot replace {total} samples; leave it out")
    return stream.sample(range(total), count)


def _without(positions: Ints, gone: list[int]) -> Ints:
    stay = np.ones(len(positions), dtype=bool)
    stay[gone] = False
    return positions[stay]
