"""One place that holds results: a folder of artifacts, which runs it was asked for, and which of them it has.

A place covers one test domain. Mixtures are renamed to their standard names here, so that those of different test
domains, and the reference study's own names, fall together.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from domix.evaluate.schemas import TABLES as SCHEMAS
from domix.report.tables.claim import SCORES
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.study import PUBLIC, Run, Study, list_runs, study_of

TABLES = ("metrics", "per_class", "mixtures", "comparisons", "curves", "effective", "robustness")
SCORES_FILE = f"report/{Path(SCORES.path).name}"
FILES = ("mixtures/summary.json", *(f"eval/{name}.parquet" for name in (*TABLES, "predictions")), SCORES_FILE)
RUN = ["kind", "mixture", "seed"]
NAMED = ("mixture", "baseline", "reference")  # columns that hold names of mixtures


@dataclass(frozen=True)
class RequestedRun(Run):
    """A run that was asked for, its mixture as the place calls it, and how far its making has come."""

    state: str = "done"
    note: str = ""
    log: str = ""


@dataclass(frozen=True)
class ResultsPlace:
    """Where results may lie, and what was asked for there."""

    label: str
    test_domain: str
    artifacts: Path
    params: dict[str, Any]  # as the parameter file holds them
    data: str | None  # digest of the packed images
    runs: tuple[RequestedRun, ...]
    problem: str = ""  # why its results cannot be read


@dataclass(frozen=True)
class PlaceResults:
    """What a place holds: its tables with standard names, or why there are none."""

    place: ResultsPlace
    runs: tuple[RequestedRun, ...]  # asked for, with standard names
    summary: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    problem: str = ""

    @property
    def study(self) -> Study:
        """What the place's study asks."""
        return study_of(self.summary, where=self.place.label)

    @property
    def present(self) -> set[tuple[str, str, int]]:
        """The runs that were evaluated: (kind, mixture, seed)."""
        return runs_of(self.tables["metrics"]) if self.tables else set()

    def renamed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return a table of this place with standard names."""
        return _rename(frame, _standard(self.summary))


def asked_runs(params: dict[str, Any]) -> tuple[RequestedRun, ...]:
    """List the runs that a parameter file asks for."""
    seeds = params.get("seeds", [])
    supervised = (params.get("supervised") or {}).get("mixtures", [])
    runs = list_runs(params.get("mixtures", []), seeds, supervised=supervised, public=list(params.get("models") or {}))
    return tuple(RequestedRun(run.kind, run.mixture, run.seed) for run in runs)


def read_part(place: ResultsPlace) -> PlaceResults:
    """Read what a place holds of the runs asked for.

    Raises:
        DataError: a table is missing beside others, damaged, or not as it is declared.
    """
    if place.problem:
        return PlaceResults(place, place.runs, problem=place.problem)
    path = place.artifacts / "mixtures" / "summary.json"
    if not path.exists():
        return PlaceResults(place, place.runs, problem="its mixtures are not made")
    summary = read_json(path)
    standard = _standard(summary)
    runs = tuple(_renamed(run, standard) for run in place.runs)
    if not (place.artifacts / "eval" / "metrics.parquet").exists():
        return PlaceResults(place, runs, summary, problem="it is not evaluated")
    if summary["test_domain"] != place.test_domain:
        return PlaceResults(place, runs, summary, problem=f"its tables are of the test domain {summary['test_domain']}")
    try:
        tables = {name: _read(place.artifacts / "eval" / f"{name}.parquet", standard) for name in TABLES}
        tables[SCORES.name] = _read_scores(place.artifacts, standard)
    except DataError as error:  # a revision's files lie in a folder that says nothing to anybody
        said = str(error).replace(f"{place.artifacts.parent}/", "")
        raise DataError(f"{place.label}: {said}", remake=error.remake) from error
    others = runs_of(tables["metrics"]) - {(run.kind, run.mixture, run.seed) for run in runs}
    if others:
        kind, mixture, seed = min(others)
        return PlaceResults(
            place, runs, summary, problem=f"its tables hold runs not asked for, as {kind} {mixture} seed {seed}"
        )
    return PlaceResults(place, runs, summary, tables)


def runs_of(frame: pd.DataFrame) -> set[tuple[str, str, int]]:
    """Return the runs (kind, mixture, seed) that a table has rows of."""
    unique = frame[RUN].drop_duplicates()
    return {(str(k), str(m), int(s)) for k, m, s in unique.itertuples(index=False)}


def _standard(summary: dict[str, Any]) -> dict[str, str]:
    return {mixture["name"]: mixture["standard_name"] for mixture in summary["mixtures"]}


def _read(path: Path, standard: dict[str, str]) -> pd.DataFrame:
    return _rename(SCHEMAS[path.stem].read(path), standard)


def _read_scores(artifacts: Path, standard: dict[str, str]) -> pd.DataFrame:
    """Read what analyses say of classes and models: no row before there is a report."""
    path = artifacts / SCORES_FILE
    return _rename(SCORES.read(path), standard) if path.exists() else SCORES.empty()


def _rename(frame: pd.DataFrame, standard: dict[str, str]) -> pd.DataFrame:
    public = frame["kind"] == PUBLIC
    for column in set(NAMED) & set(frame.columns):
        frame[column] = frame[column].where(public, frame[column].map(lambda name: standard.get(name, name)))
    return frame


def _renamed(run: RequestedRun, standard: dict[str, str]) -> RequestedRun:
    return run if run.kind == PUBLIC else replace(run, mixture=standard.get(run.mixture, run.mixture))
