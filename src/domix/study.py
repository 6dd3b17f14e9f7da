"""What a study asks and which runs it has: read once, and composed into whatever needs more.

A study withholds the test classes of its test domain from some of its mixtures; these cells are *held out*. What cuts
mixtures knows the split alone (domix.data.mixtures.cells.Split), and what trains and names a model its run
(domix.runs.Run), so that an edit here trains nothing anew.

Shapes: K classes, T test classes, N rows of a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.mixtures.cells import Split
from domix.runs import CLIP, KINDS, PUBLIC, SUPERVISED, Run, list_runs
from domix.runtime.errors import DataError
from domix.runtime.files import read_json

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]
__all__ = [
    "CLIP",
    "KINDS",
    "PUBLIC",
    "SUPERVISED",
    "Run",
    "Split",
    "Study",
    "list_runs",
    "read_study",
    "split_of",
    "study_of",
]


@dataclass(frozen=True)
class Study(Split):
    """A split, and the runs that were asked for: CLIP models, classifiers, public models, in the parameters' order."""

    runs: tuple[Run, ...] = ()
    standard_names: Mapping[str, str] = field(default_factory=dict)  # of its mixtures: they may go by an alias

    @property
    def test_labels(self) -> Ints:
        """Labels of the test classes, rising, [T]."""
        return np.flatnonzero(self.class_subsets()["test"])

    def held_out(self, domain: str, name: str) -> bool:
        """Tell whether the cell of a domain and a class is held out."""
        return domain == self.test_domain and name in self.test_classes

    def held_out_rows(self, table: pd.DataFrame) -> Flags:
        """Tell which rows of a table with the columns domain and class lie in held-out cells, [N]."""
        inside = (table["domain"] == self.test_domain) & table["class"].isin(self.test_classes)
        return inside.to_numpy(dtype=np.bool_)

    def class_subsets(self) -> dict[str, Flags]:
        """Return the classes all, test and seen, each [K] in label order."""
        wanted = set(self.test_classes)
        test = np.array([name in wanted for name in self.classes], dtype=np.bool_)
        return {"all": np.ones_like(test), "test": test, "seen": ~test}

    def require_same(self, domains: Sequence[str], classes: Sequence[str], where: Path | str) -> None:
        """Check that something was made of this study's data.

        Raises:
            DataError: `where` has other classes, or lacks the test domain.
        """
        if list(classes) != list(self.classes) or self.test_domain not in domains:
            raise DataError(f"{where} was made from other classes or domains than the mixtures", remake=_file(where))

    @property
    def kind(self) -> str:
        """Of the models that are spoken of: CLIP models, unless all runs are classifiers (`of_kind`)."""
        return SUPERVISED if self.runs and all(run.kind == SUPERVISED for run in self.runs) else CLIP

    @property
    def mixtures(self) -> list[str]:
        """Mixtures of the models that are spoken of (`kind`)."""
        return self.mixtures_of(self.kind)

    @property
    def seeds(self) -> list[int]:
        """Seeds of the models that were trained here."""
        return list(dict.fromkeys(run.seed for run in self.runs if run.kind != PUBLIC))

    def mixtures_of(self, kind: str) -> list[str]:
        """List the mixtures of a kind of models; of public ones, their names."""
        return list(dict.fromkeys(run.mixture for run in self.runs if run.kind == kind))

    def runs_of(self, kind: str) -> list[Run]:
        """List the runs of a kind of models."""
        return [run for run in self.runs if run.kind == kind]

    def named(self, standard_name: str, kind: str | None = None) -> str | None:
        """Return what the study calls the mixture of a standard name; None if no run of this kind is of it."""
        here = self.mixtures_of(kind or self.kind)
        names = (own for own, standard in self.standard_names.items() if standard == standard_name and own in here)
        return next(names, None)

    def standard_name(self, run: Run) -> str:
        """Return the standard name of a run's mixture; of a public model, which has none, nothing."""
        return "" if run.kind == PUBLIC else self.standard_names[run.mixture]

    def of_kind(self, kind: str) -> Study:
        """Return the study with its runs of a kind, which are then those spoken of."""
        return replace(self, runs=tuple(self.runs_of(kind)))

    def only(self, runs: Sequence[Run]) -> Study:
        """Return the study with some of its runs."""
        return replace(self, runs=tuple(run for run in self.runs if run in set(runs)))


def split_of(summary: Mapping[str, Any], *, where: Path | str = "summary.json") -> Split:
    """Return what a summary of mixtures (artifacts/mixtures/summary.json) says of domains and classes.

    Raises:
        DataError: the summary lacks something.
    """
    try:
        return Split(
            test_domain=summary["test_domain"],
            natural_domain=summary["natural_domain"],
            test_classes=tuple(summary["test_classes"]),
            domains=tuple(summary["domains"]),
            classes=tuple(summary["classes"]),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{where} lacks {error}", remake=_file(where)) from error


def study_of(summary: Mapping[str, Any], runs: Sequence[Run] = (), *, where: Path | str = "summary.json") -> Study:
    """Return the study that a summary of mixtures tells of, with these runs.

    Raises:
        DataError: the summary lacks something, or does not describe the mixture of a run.
    """
    try:
        standard = {mixture["name"]: mixture["standard_name"] for mixture in summary["mixtures"]}
    except (KeyError, TypeError) as error:
        raise DataError(f"{where} lacks {error}", remake=_file(where)) from error
    study = Study(**vars(split_of(summary, where=where)), runs=tuple(runs), standard_names=standard)
    for run in study.runs:
        if run.kind != PUBLIC and run.mixture not in standard:
            raise DataError(f"{where} does not describe the mixture {run.mixture!r}", remake=_file(where))
    return study


def read_study(path: Path, runs: Sequence[Run] = ()) -> Study:
    """Read the study that the mixtures' `summary.json` tells of, with the runs that parameters ask for.

    Raises:
        DataError: the file is missing or damaged, or does not describe the mixture of a run.
    """
    return study_of(read_json(path), runs, where=path)


def _file(where: Path | str) -> Path | None:
    """Return the file that a message speaks of; None: it calls it by another name."""
    return where if isinstance(where, Path) else None
