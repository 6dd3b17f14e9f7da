"""Everything that the report reads, as one value: the tables of docs/architecture.md for the runs that were asked for.

Tables on disk may hold rows of runs that are no longer asked for; they are dropped here, once, so that nothing after
this module needs to care.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from domix.analyses.contract import Findings
from domix.analyses.registry import find
from domix.analyses.results import read_findings
from domix.data.mixtures.composition import CELLS
from domix.evaluate.schemas import METRICS, PAIRED, PER_CLASS, PREDICTIONS
from domix.report.load.evaluation import Further, read_further, read_model
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.tables import TableSchema
from domix.study import CLIP, SUPERVISED, Run, Study, list_runs, study_of

BASELINE = "natural-only"
UPPER_BOUNDS = ("cg-high-all", "cg-low-all")  # in order of preference


@dataclass(frozen=True)
class Results:
    """What a study found: what was shown to the models, and what they made of it.

    Its `study` has the runs of every mixture of which at least one is complete. Frames hold the columns of
    docs/architecture.md, rows of CLIP models alone; what is known of other models, and of all seeds together, is in
    `further`. `log` holds every run's log.csv with `mixture` and `seed` added; `models` maps (mixture, seed) to its two
    JSON files. `missing` names what an unfinished study lacks: an analysis may hold no rows and no facts. `analyses`
    are those asked for, by name.
    """

    study: Study
    confidence: float
    summary: dict[str, Any]
    cells: pd.DataFrame
    metrics: pd.DataFrame
    per_class: pd.DataFrame
    paired: pd.DataFrame
    predictions: pd.DataFrame
    analyses: dict[str, Findings]
    log: pd.DataFrame
    models: dict[tuple[str, int], dict[str, Any]]
    further: Further
    missing: list[str]

    @property
    def test_domain(self) -> str:
        """The domain whose test classes were held out."""
        return self.study.test_domain

    @property
    def natural_domain(self) -> str:
        """The domain that all mixtures show."""
        return self.study.natural_domain

    @property
    def domains(self) -> list[str]:
        """All domains, by name."""
        return list(self.study.domains)

    @property
    def classes(self) -> list[str]:
        """All classes, in label order."""
        return list(self.study.classes)

    @property
    def test_classes(self) -> list[str]:
        """The classes that were held out, in label order."""
        return list(self.study.test_classes)

    @property
    def mixtures(self) -> list[str]:
        """Mixtures of the CLIP models, in the parameters' order."""
        return self.study.mixtures

    @property
    def seeds(self) -> list[int]:
        """Seeds that were asked for, in the parameters' order."""
        return self.study.seeds

    @property
    def baseline(self) -> str | None:
        """The mixture of natural images alone, if it was trained."""
        return self.named(BASELINE)

    @property
    def upper_bound(self) -> str | None:
        """The mixture that was shown the held-out cells too, if one was trained."""
        return next((name for name in map(self.named, UPPER_BOUNDS) if name), None)

    def named(self, standard_name: str) -> str | None:
        """Return what the study calls the mixture of a standard name; None if no CLIP model is of it."""
        return self.study.named(standard_name)

    def first(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of each mixture's first seed."""
        seeds = {m: next((s for s in self.seeds if (m, s) in self.models), None) for m in self.mixtures}
        return frame[frame["seed"] == frame["mixture"].map(seeds)]

    def held_out_samples(self, mixture: str) -> int:
        """Return how many samples of the held-out cells (test classes in the test domain) a mixture holds."""
        mine = self.cells[(self.cells["mixture"] == mixture) & (self.cells["domain"] == self.test_domain)]
        return int(mine.loc[mine["class"].isin(self.test_classes), "samples"].sum())

    def shown_domains(self, mixture: str) -> list[str]:
        """Return the domains of which a mixture holds at least one sample, in the study's order."""
        totals = self.cells[self.cells["mixture"] == mixture].groupby("domain")["samples"].sum()
        return [domain for domain in self.domains if totals.get(domain, 0) > 0]


def load_results(
    artifacts: Path,
    mixtures: Sequence[str],
    seeds: Sequence[int],
    confidence: float,
    *,
    supervised: Sequence[str] = (),
    public: Sequence[str] = (),
    analyses: Iterable[str] = (),
    unfinished: bool = False,
) -> Results:
    """Read the tables of the runs `mixtures` x `seeds` below the folder `artifacts`.

    Args:
        supervised: mixtures of the classifiers that stand beside.
        public: names of the public models that do.
        analyses: names of those that have run.
        unfinished: read what is there of a study some of whose stages have yet to run; `missing` names the rest.

    Raises:
        DataError: a file is missing or unreadable, or holds no rows for one of the runs; of an unfinished study, a file
            is unreadable, or no run is complete.
    """
    path = artifacts / "mixtures" / "summary.json"
    summary = read_json(path)
    wanted = [(m, s) for m in mixtures for s in seeds]
    missing: list[str] = []
    if unfinished:
        complete = complete_runs(artifacts, wanted)
        missing = [f"the evaluation of {m} seed {s}" for m, s in wanted if (m, s) not in complete]
        wanted = complete
    begun = [m for m in mixtures if m in dict(wanted)]
    models = {(m, s): read_model(artifacts / "models" / CLIP / Run(CLIP, m, s).name) for m, s in wanted}
    study = study_of(summary, list_runs(begun, seeds, supervised=supervised, public=public), where=path)

    def table(schema: TableSchema) -> pd.DataFrame:
        return read_runs(artifacts / "eval" / f"{schema.name}.parquet", wanted, schema)

    def findings(name: str) -> Findings:
        runs = [*(Run(CLIP, mixture, seed) for mixture, seed in wanted), *study.runs_of(SUPERVISED)]
        return read_findings(find(name), artifacts / "analysis" / name, runs, missing if unfinished else None)

    return Results(
        study=study,
        confidence=confidence,
        summary=summary,
        cells=read_mixtures(artifacts / "mixtures/cells.parquet", begun, CELLS),
        metrics=table(METRICS),
        per_class=table(PER_CLASS),
        paired=_read_paired(artifacts / "eval" / "paired.parquet", wanted),
        predictions=table(PREDICTIONS),
        analyses={name: findings(name) for name in analyses},
        log=_read_logs(artifacts / "models" / "clip", wanted),
        models=models,
        further=read_further(artifacts, study, partial=unfinished),
        missing=missing,
    )


def complete_runs(artifacts: Path, wanted: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return those of the runs that are trained and evaluated.

    Raises:
        DataError: none is.
    """
    found = set(wanted)
    for schema in (METRICS, PER_CLASS, PREDICTIONS):
        frame = schema.read(artifacts / "eval" / f"{schema.name}.parquet", ["kind", "mixture", "seed"])
        frame = frame[frame["kind"] == CLIP]
        found &= set(zip(frame["mixture"], frame["seed"], strict=True))
    files = ("config.json", "done.json", "log.csv")
    folders = {(m, s): artifacts / "models" / CLIP / Run(CLIP, m, s).name for m, s in wanted}
    complete = [run for run in wanted if run in found and all((folders[run] / file).exists() for file in files)]
    if not complete:
        raise DataError(f"no run of {artifacts} is both trained and evaluated yet", remake=artifacts / "eval")
    return complete


def read_runs(path: Path, wanted: Sequence[tuple[str, int]], schema: TableSchema) -> pd.DataFrame:
    """Read the rows of CLIP models asked for, ordered by run; the order inside a run stays.

    Raises:
        DataError: there are none for one of them.
    """
    frame = schema.read(path)
    frame = frame[frame["kind"] == CLIP]
    order = {run: position for position, run in enumerate(dict.fromkeys(m for m, _ in wanted))}
    runs = pd.Series(list(zip(frame["mixture"], frame["seed"], strict=True)), index=frame.index, dtype=object)
    frame = frame[runs.isin(set(wanted))]
    if lacking := sorted(set(wanted) - set(runs)):
        raise DataError(f"{path} holds nothing for {lacking[0][0]} seed {lacking[0][1]}", remake=path)
    return frame.sort_values("mixture", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


def read_mixtures(path: Path, mixtures: Sequence[str], schema: TableSchema) -> pd.DataFrame:
    """Read the rows of the mixtures asked for, in their order.

    Raises:
        DataError: there are none for one of them.
    """
    frame = schema.read(path)
    frame = frame[frame["mixture"].isin(mixtures)]
    if lacking := sorted(set(mixtures) - set(frame["mixture"])):
        raise DataError(f"{path} holds nothing for {lacking[0]}", remake=path)
    order = {name: position for position, name in enumerate(mixtures)}
    return frame.sort_values("mixture", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


def _read_paired(path: Path, wanted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    """Read the comparisons between runs asked for; there are none where there is one mixture."""
    frame = PAIRED.read(path)
    runs = set(wanted)
    pairs = zip(frame["mixture"], frame["baseline"], frame["seed"], strict=True)
    asked = [(m, s) in runs and (b, s) in runs for m, b, s in pairs]
    return frame[(frame["kind"] == CLIP) & pd.Series(asked, index=frame.index, dtype=bool)].reset_index(drop=True)


def _read_logs(folder: Path, wanted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    frames = []
    for mixture, seed in wanted:
        path = folder / Run(CLIP, mixture, seed).name / "log.csv"
        try:
            log = pd.read_csv(path)
        except FileNotFoundError:
            raise DataError(f"{path} is missing", remake=path) from None
        frames.append(log.assign(mixture=mixture, seed=seed))
    return pd.concat(frames, ignore_index=True)
