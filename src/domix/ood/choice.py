"""Hyper-parameters of scores (k, T, shrinkage, ...), chosen on an OOD set that no result is reported on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from domix.ood.blocks import Array
from domix.ood.metrics import auroc, fpr95
from domix.runtime.errors import DataError, ParameterError

Options = Mapping[str, Any]
METRICS = ("auroc", "fpr95")
TEMPERATURES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
SHRINKAGES = (0.01, 0.03, 0.1, 0.3, 0.9)
GRIDS: dict[str, tuple[Options, ...]] = {
    **{name: tuple({"temperature": t} for t in TEMPERATURES) for name in ("msp", "energy", "entropy", "mcm")},
    "neglabel": tuple({"temperature": t} for t in TEMPERATURES[:5]),
    "gen": tuple({"gamma": gamma, "top": top} for gamma in (0.01, 0.1, 0.5, 1.0) for top in (10, 100)),
    "knn": tuple({"k": k} for k in (1, 5, 10, 20, 50, 100, 200, 500)),
    **{name: tuple({"shrinkage": s} for s in SHRINKAGES) for name in ("mahalanobis", "relative_mahalanobis")},
    "react": tuple({"share": share} for share in (0.8, 0.85, 0.9, 0.95, 0.99)),
    **{name: tuple({"share": share} for share in (0.65, 0.8, 0.85, 0.9, 0.95)) for name in ("ash", "scale")},
    "nnguide": tuple({"k": k} for k in (1, 5, 10, 50, 100)),
}
"""Values to try of each score that has hyper-parameters to choose."""


@dataclass(frozen=True)
class Choice:
    """The options that do best on a validation set, and what each does there."""

    options: Options
    validation: str
    metric: str
    tried: tuple[tuple[Options, float], ...]


def several(options: Options) -> list[str]:
    """Return those options that are lists of values to choose from."""
    return [option for option, value in options.items() if isinstance(value, list | tuple)]


def text_of(options: Options) -> str:
    """Write options for a reader: `k 5, metric cos-sim`."""
    return ", ".join(f"{option} {value}" for option, value in options.items())


def grid_of(name: str, options: Options, *, bank: int) -> list[Options]:
    """Return what to try of a score.

    Where options are lists, each value of one with each of the others, the last option changing fastest; else these
    options first, and then them with each value of the score's grid.

    Args:
        name: of the score.
        options: a value of each, or a list of values.
        bank: images in the smallest bank; more neighbours than that are not tried, unless nothing else is asked for.
    """
    if several(options):
        values = [value if isinstance(value, list | tuple) else [value] for value in options.values()]
        tried = [dict(zip(options, some, strict=True)) for some in product(*values)]
    else:
        tried = [dict(options), *({**options, **values} for values in GRIDS.get(name, ()))]
    kept: list[Options] = [
        one for place, one in enumerate(tried) if one.get("k", 1) <= bank and one not in tried[:place]
    ]
    return kept or list(tried[:1])


def choose_options(
    grid: Sequence[Options],
    scores: Callable[[Options], tuple[Array, Array]],
    *,
    validation: str,
    tests: Sequence[str],
    metric: str = "auroc",
    convention: str = "plp",
) -> Choice:
    """Return the options of a grid with the highest AUROC, or lowest FPR95, on a validation set; of equals the first.

    Args:
        grid: options to try.
        scores: takes options, returns the scores of the ID validation images [P] and of the OOD validation images [N].
        validation: name of the OOD validation set.
        tests: names of the OOD sets that results are reported on.
        metric: `auroc` or `fpr95`.
        convention: of FPR95, see domix.ood.metrics.

    Raises:
        DataError: the validation set is one of the test sets, or its scores are none.
        ParameterError: the grid is empty, or there is no such metric or convention.
    """
    if validation in tests:
        raise DataError(
            f"the OOD set {validation} would both choose hyper-parameters and be reported on: name another for one",
            argument="validation",
        )
    if not grid:
        raise ParameterError("the grid is empty: give options to try", argument="grid")
    if metric not in METRICS:
        raise ParameterError(f"options are chosen by {' or '.join(METRICS)}, not by {metric!r}", argument="metric")
    tried = []
    for options in grid:
        inside, outside = scores(options)
        value = auroc(inside, outside) if metric == "auroc" else fpr95(inside, outside, convention=convention)
        tried.append((dict(options), value))
    values = [value if metric == "auroc" else -value for _, value in tried]
    return Choice(tried[int(np.argmax(values))][0], validation, metric, tuple(tried))
