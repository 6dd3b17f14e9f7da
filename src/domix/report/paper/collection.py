"""Several places' results as one set of tables, with what is missing and what cannot be said.

The tables are those of docs/architecture.md with a first column `test_domain`; `mixtures` and `comparisons`, which
are over seeds, are taken as they are from the one place that holds a test domain's runs, and measured anew where the
runs of one test domain lie in several places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from domix.evaluate.schemas import BALANCED, MACRO_F1
from domix.report.paper.comparable import require_comparable, unverified
from domix.report.paper.mixtures import Shown, in_order, read_mixtures
from domix.report.paper.place import RUN, TABLES, PlaceResults, RequestedRun, ResultsPlace, read_part
from domix.report.paper.pooled import measure_anew
from domix.report.tables.claim import SCORES, relations
from domix.runtime.errors import DataError
from domix.study import Study

PER_RUN = ("metrics", "per_class", "curves", "robustness", SCORES.name)
PRIMARY, F1 = BALANCED, MACRO_F1


@dataclass(frozen=True)
class Missing:
    """A run that was asked for and is not in the tables."""

    test_domain: str
    run: RequestedRun
    why: str


@dataclass(frozen=True)
class Collection:
    """All results that were found."""

    studies: list[Study]  # one a test domain, of the same data and classes
    mixtures: list[str]  # standard names of those trained, in order
    shown: dict[str, dict[str, Shown]]  # test domain -> mixture -> what it shows
    tables: dict[str, pd.DataFrame]
    places: list[str]
    wanted: dict[tuple[str, str, str], int]  # (test domain, kind, mixture) -> seeds asked for
    missing: list[Missing]
    confidence: float
    top_k: int
    last: int
    resamples: int
    seed: int
    total: dict[tuple[str, str], int | None]  # (test domain, kind) -> samples of a training, where that is its length
    notes: list[str] = field(default_factory=list)

    @property
    def test_domains(self) -> list[str]:
        """The test domains, in the order in which their places were named."""
        return [study.test_domain for study in self.studies]

    @property
    def natural_domain(self) -> str:
        """The natural domain of all of them."""
        return self.studies[0].natural_domain

    @property
    def domains(self) -> list[str]:
        """All domains, by name."""
        return list(self.studies[0].domains)

    @property
    def test_classes(self) -> list[str]:
        """The test classes of all of them, in label order."""
        return list(self.studies[0].test_classes)

    @cached_property
    def relations(self) -> pd.DataFrame:
        """How what models share predicts accuracy on the held-out cells, over all test domains."""
        units = self.tables[SCORES.name]
        return relations(units, confidence=self.confidence, resamples=self.resamples, seed=self.seed)

    @property
    def asked(self) -> int:
        """How many runs were asked for."""
        return sum(self.wanted.values())

    @property
    def mark(self) -> str:
        """Return what figures and tables of an unfinished study say; nothing of a whole one."""
        present = self.asked - len(self.missing)
        return f"incomplete: {present} of {self.asked} runs" if self.missing else ""

    def rows(self, table: str, test_domain: str, kind: str, **values: object) -> pd.DataFrame:
        """Return the rows of a table of one test domain and kind whose other columns have these values."""
        frame = self.tables[table]
        chosen = (frame["test_domain"] == test_domain) & (frame["kind"] == kind)
        for column, value in values.items():
            chosen &= frame[column] == value
        return frame[chosen]

    def main(self, kind: str) -> list[str]:
        """Return the mixtures of a kind that are no points of an interpolation; where all are, all."""
        there = set(self.tables["mixtures"].loc[self.tables["mixtures"]["kind"] == kind, "mixture"])
        every = [mixture for by_name in self.shown.values() for mixture in by_name.values()]
        between = {mixture.name for mixture in every if mixture.is_between or mixture.is_partial}
        return [name for name in self.mixtures if name in there - between] or [m for m in self.mixtures if m in there]

    def kinds(self) -> list[str]:
        """Return the kinds of trained models that there are."""
        return [kind for kind in ("clip", "supervised") if (self.tables["metrics"]["kind"] == kind).any()]


def collect(places: Sequence[ResultsPlace]) -> Collection:
    """Read places and put their results together.

    Raises:
        DataError: nothing is there, the places do not fit together, or one run lies in two of them and differs.
    """
    parts = [read_part(place) for place in places]
    whole = [part for part in parts if part.tables]
    if not whole:
        first = parts[0]
        raise DataError(
            f"nothing to show: none of the {sum(len(p.runs) for p in parts)} runs asked for is evaluated"
            f" ({first.place.label}: {first.problem})"
        )
    require_comparable(whole)
    domains = list(dict.fromkeys(part.place.test_domain for part in whole))
    groups = [[part for part in whole if part.place.test_domain == domain] for domain in domains]
    merged = [_merge(group) for group in groups]
    tables = {name: _stack(domains, [tables[name] for tables in merged]) for name in (*TABLES, SCORES.name)}
    shown = {group[0].place.test_domain: _shown(group) for group in groups}
    trained = {name for by_name in shown.values() for name in by_name} & set(tables["metrics"]["mixture"])
    every = {name: mixture for by_name in shown.values() for name, mixture in by_name.items()}
    asked = _asked(parts)
    params = whole[0].place.params
    return Collection(
        studies=[group[0].study for group in groups],
        mixtures=in_order([name for name in every if name in trained], every),
        shown=shown,
        tables=tables,
        places=[part.place.label for part in parts],
        wanted=Counter(key[:3] for key in asked),
        missing=_missing(parts, asked),
        confidence=params["evaluate"]["confidence"],
        top_k=params["evaluate"]["top_k"],
        last=params["evaluate"]["last"],
        resamples=params["evaluate"]["bootstrap"],
        seed=params["evaluate"]["seed"],
        total=_totals(whole),
        notes=_notes(parts, whole, groups),
    )


def _merge(group: Sequence[PlaceResults]) -> dict[str, pd.DataFrame]:
    """Put the tables of one test domain together."""
    _require_identical(group)
    widest = max(group, key=lambda part: len(part.present))
    if all(part.present <= widest.present for part in group):
        return widest.tables
    merged = {name: _without_twins([part.tables[name] for part in group]) for name in PER_RUN}
    return merged | measure_anew(group, merged["metrics"], merged["curves"])


def _require_identical(group: Sequence[PlaceResults]) -> None:
    """Check that a run that lies in two places has the same numbers there."""
    for position, part in enumerate(group):
        for other in group[position + 1 :]:
            for run in sorted(part.present & other.present):
                ours, theirs = (_of(p.tables["metrics"], run) for p in (part, other))
                if not ours.equals(theirs):
                    kind, mixture, seed = run
                    raise DataError(
                        f"{kind} {mixture} seed {seed} of the test domain {part.place.test_domain} lies in"
                        f" {part.place.label} and in {other.place.label}, with other numbers: leave one of them out"
                    )


def _of(frame: pd.DataFrame, run: tuple[str, str, int]) -> pd.DataFrame:
    kind, mixture, seed = run
    chosen = (frame["kind"] == kind) & (frame["mixture"] == mixture) & (frame["seed"] == seed)
    rows = frame[chosen]
    return rows.sort_values([c for c in ("domain", "cells", "metric") if c in rows]).reset_index(drop=True)


def _without_twins(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Stack tables; of a run that several hold, the first table's rows stay."""
    kept, known = [], pd.MultiIndex.from_tuples([], names=RUN)
    for frame in frames:
        runs = pd.MultiIndex.from_frame(frame[RUN])
        kept.append(frame[~runs.isin(known)])
        known = known.union(runs.unique())
    return pd.concat(kept, ignore_index=True)


def _stack(domains: Sequence[str], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Stack the test domains' tables, each with its name before its columns."""
    named = []
    for domain, frame in zip(domains, frames, strict=True):
        frame = frame.copy()
        frame.insert(0, "test_domain", domain)
        named.append(frame)
    filled = [frame for frame in named if len(frame)] or named[:1]
    return pd.concat(filled, ignore_index=True)


def _shown(group: Sequence[PlaceResults]) -> dict[str, Shown]:
    return {name: mixture for part in group for name, mixture in read_mixtures(part.summary).items()}


def _asked(parts: Sequence[PlaceResults]) -> dict[tuple[str, str, str, int], tuple[RequestedRun, PlaceResults]]:
    """Return every run asked for, and where; of one that several places are asked for, a place that has it."""
    found: dict[tuple[str, str, str, int], tuple[RequestedRun, PlaceResults]] = {}
    for part in parts:
        for run in part.runs:
            key = (part.place.test_domain, run.kind, run.mixture, run.seed)
            if key not in found or key[1:] in part.present:
                found[key] = (run, part)
    return found


def _missing(
    parts: Sequence[PlaceResults], asked: dict[tuple[str, str, str, int], tuple[RequestedRun, PlaceResults]]
) -> list[Missing]:
    missing = []
    for key, (run, part) in asked.items():
        if key[1:] not in part.present:
            why = run.note or (part.problem if run.state == "done" else "")
            missing.append(Missing(key[0], run, why or "not evaluated"))
    return missing


def _totals(parts: Sequence[PlaceResults]) -> dict[tuple[str, str], int | None]:
    """Return how many samples a training sees, by test domain and kind; None where that is counted in epochs."""
    totals: dict[tuple[str, str], int | None] = {}
    for part in parts:
        for kind, section in (("clip", "train"), ("supervised", "supervised")):
            recipe = part.place.params.get(section) or {}
            totals[part.place.test_domain, kind] = None if recipe.get("epochs") else recipe.get("samples")
    return totals


def _notes(
    parts: Sequence[PlaceResults], whole: Sequence[PlaceResults], groups: Sequence[Sequence[PlaceResults]]
) -> list[str]:
    notes = [f"{part.place.label}: {part.problem}." for part in parts if part.problem]
    if len(whole) > 1:
        notes += [f"{label}: no lock file says which images it packed." for label in unverified(whole)]
    for part in whole:
        late = [run for run in part.runs if run.state != "done" and (run.kind, run.mixture, run.seed) in part.present]
        notes += [
            f"{part.place.label}: {run.kind} {run.mixture} seed {run.seed} is {run.state}; its numbers are of"
            " a training before."
            for run in late
        ]
    for group in groups:
        if len(group) > 1:
            labels = ", ".join(part.place.label for part in group)
            notes.append(f"The runs of the test domain {group[0].place.test_domain} come from {labels}.")
    return notes
