"""Hyper-parameters of scores (k, T, shrinkage, ...), chosen on an OOD set that no result is reported on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domix.ood.blocks import Array
from domix.ood.metrics import auroc, fpr95
from domix.runtime.errors import DataError, ParameterError

Options = Mapping[str, Any]
METRICS = ("auroc", "fpr95")


@dataclass(frozen=True)
class Choice:
    """The options that do best on a validation set, and what each does there."""

    options: Options
    validation: str
    metric: str
    tried: tuple[tuple[Options, float], ...]


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
