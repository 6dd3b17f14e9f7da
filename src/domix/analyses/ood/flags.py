"""Which images are flagged as foreign, domain by domain, and how well each class is told from the known images.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from domix.analyses.ood.choosing import VALIDATION
from domix.analyses.ood.images import Flags, Floats, Group, StudyImages
from domix.evaluate.statistics import clopper_pearson
from domix.ood.metrics import auroc, reaching
from domix.study import Run, Study

CELL = ["set", "domain", "cells"]
FOREIGN = ("held_out", "near", "far")  # groups whose single classes are told


def threshold(known: Floats) -> float:
    """Return the highest score that at least 95 % of the known images reach."""
    return float(np.sort(known)[-reaching(len(known))])


def flag_rows(
    scores: Mapping[Run, Mapping[str, Floats]],
    images: StudyImages,
    known: Flags,
    cells: pd.DataFrame,
    study: Study,
    confidence: float,
) -> list[dict[str, Any]]:
    """Return the rows of the table flags: what scores below the threshold of its run and score.

    Args:
        scores: of each run, by name [N].
        images: of all runs.
        known: which are known [N].
        cells: what the mixtures hold (domix.data.mixtures.composition.CELLS).
        study: of the runs.
        confidence: of the intervals.
    """
    held = cells[cells["samples"] > 0]
    held = held.assign(cells=np.where(held["class"].isin(study.test_classes), "test", "seen"))
    trained = set(held[["mixture", "domain", "cells"]].itertuples(index=False, name=None))
    rows = []
    for run, mine in scores.items():
        for name, values in mine.items():
            flagged = values < threshold(values[known])
            table = images.rows.assign(flagged=flagged).groupby(CELL, sort=False)["flagged"].agg(["size", "sum"])
            for source, domain, which, n, count in table.reset_index().itertuples(index=False, name=None):
                if which == VALIDATION:
                    continue
                low, high = clopper_pearson(count, n, confidence)
                known_cell = source == images.source and (run.mixture, domain, which) in trained
                rows.append(
                    {"mixture": run.mixture, "seed": run.seed, "score": name, "set": source, "domain": domain}
                    | {"cells": which, "trained": known_cell, "n": n, "flagged": count, "share": count / n}
                    | {"low": float(low), "high": float(high)}
                )
    return rows


def class_rows(
    scores: Mapping[Run, Mapping[str, Floats]], images: StudyImages, known: Flags, groups: Mapping[Group, Flags]
) -> list[dict[str, Any]]:
    """Return the rows of the table classes: every class of the foreign groups of FOREIGN against the known images."""
    names = images.rows["class"].to_numpy(dtype=object)
    places = {
        (*group, name): np.flatnonzero(at & (names == name))
        for group, at in groups.items()
        if group[0] in FOREIGN
        for name in dict.fromkeys(names[at])
    }
    return [
        {"mixture": run.mixture, "seed": run.seed, "score": score, "group": group, "set": source, "class": name}
        | {"auroc": auroc(values[known], values[at]), "n": len(at)}
        for run, mine in scores.items()
        for score, values in mine.items()
        for (group, source, name), at in places.items()
    ]
