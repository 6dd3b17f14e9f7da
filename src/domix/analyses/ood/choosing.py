"""Hyper-parameters chosen on known and foreign images that nothing is reported on.

Shapes: N images, M known ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from domix.analyses.ood.images import Flags, Floats, Ints, StudyImages
from domix.data.classes.ood_groups import NEARNESS
from domix.ood.choice import Choice, Options, choose_options, grid_of, text_of
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator
from domix.study import Run

Sizes = tuple[int, int]
HALF = "half"  # of the classes of each group
VALIDATION = "validation"  # what the cells of images are called that nothing is reported on


def split_known(known: Flags, part: Ints) -> tuple[Flags, Flags]:
    """Return the known images [N] that choose, those of the first part, and those that are reported on.

    Args:
        known: which images are known [N].
        part: of the known images [M], in their order.
    """
    choosing, reported = known.copy(), known.copy()
    choosing[known], reported[known] = part == 0, part != 0
    return choosing, reported


def choose_score(
    name: str,
    options: Options,
    score: Callable[[Options, Flags], Floats],
    inside: Flags,
    outside: Flags,
    *,
    known: Flags,
    bank: int,
    validation: str,
    tests: Sequence[str] = (),
) -> Choice:
    """Choose a score's hyper-parameters on some known images and foreign ones, of which none is reported on.

    Args:
        name: of the score.
        options: values, or lists of values to choose from.
        score: takes options and which images are scored [N], all known ones among them; returns their scores.
        inside: the known images that choose [N].
        outside: the foreign ones [N].
        known: all known images [N].
        bank: images in the smallest bank.
        validation: name of the foreign ones.
        tests: names of the sets that are reported on.

    Raises:
        DataError: the set is reported on, or the score cannot be computed.
    """
    rows = known | outside

    def scores(tried: Options) -> tuple[Floats, Floats]:
        found = score(tried, rows)
        return found[inside[rows]], found[outside[rows]]

    return choose_options(grid_of(name, options, bank=bank), scores, validation=validation, tests=tests)


def set_of(validation: str) -> tuple[str, str | None]:
    """Return the set that chooses, and which of its images: near, far, half; None: all."""
    name, _, which = validation.rpartition(":")
    return (name, which) if name and which in (*NEARNESS, HALF) else (validation, None)


def validation_images(rows: pd.DataFrame, validation: str, seed: int) -> Flags:
    """Return which foreign images choose [N].

    Args:
        rows: `set, class, cells` of the images.
        validation: a set, `<set>:near`, `<set>:far`, or `<set>:half`, half of the classes of each group, drawn by seed.
        seed: of the draw.

    Raises:
        DataError: there are no such images.
    """
    name, which = set_of(validation)
    found = (rows["set"] == name).to_numpy(dtype=np.bool_)
    if which in NEARNESS:
        found = found & (rows["cells"] == which).to_numpy()
    if which == HALF:
        pairs = rows.loc[found, ["cells", "class"]].drop_duplicates().sort_values(["cells", "class"])
        drawn: list[str] = []
        for _, classes in pairs.groupby("cells")["class"]:
            order = numpy_generator(seed, "ood validation").permutation(len(classes))
            drawn += [classes.iloc[place] for place in order[: len(classes) // 2]]
        found = found & rows["class"].isin(drawn).to_numpy()
    if not found.any():
        some = ", ".join(rows.loc[rows["cells"].isin(list(NEARNESS)), "set"].unique()) or "none"
        raise DataError(
            f"there are no images of {validation} to choose hyper-parameters on; sets that are embedded: {some}",
            argument=VALIDATION,
        )
    return found


def without_validation(images: StudyImages, chosen: Flags) -> StudyImages:
    """Return the images, those that have chosen [N] being in no group and no cell that is reported on."""
    return replace(images, rows=images.rows.assign(cells=images.rows["cells"].mask(chosen, VALIDATION)))


def option_rows(
    run: Run, checkpoint: int | None, scores: Mapping[str, Options], choices: Mapping[str, Choice], sizes: Sizes
) -> list[dict[str, Any]]:
    """Return the rows of the table options: those of every score, and what was tried where they were chosen.

    Args:
        run: whose they are.
        checkpoint: epochs; None: the last weights.
        scores: options by score, of those that are fixed.
        choices: of the others.
        sizes: known and foreign images that chose.
    """
    head = {"mixture": run.mixture, "seed": run.seed, "checkpoint": -1 if checkpoint is None else checkpoint}
    rows = []
    for name, options in scores.items():
        own = head | {"score": name}
        if name not in choices:
            fixed = {"chosen": True, "validation": "", "auroc": np.nan, "n_known": 0, "n_ood": 0}
            rows.append(own | {"options": text_of(options)} | fixed)
            continue
        choice = choices[name]
        own |= {"validation": choice.validation, "n_known": sizes[0], "n_ood": sizes[1]}
        rows += [
            own | {"options": text_of(tried), "chosen": tried == choice.options, "auroc": value}
            for tried, value in choice.tried
        ]
    return rows
