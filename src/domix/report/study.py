"""Everything that the report reads, as one value: the tables of docs/architecture.md for the runs that were asked for.

Tables on disk may hold rows of runs that are no longer asked for; they are dropped here, once, so that nothing after
this module needs to care.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from domix.data.composition import CELLS
from domix.evaluate.schemas import METRICS, PAIRED, PER_CLASS, PREDICTIONS
from domix.report.further import Further, read_further, read_model
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.tables import TableSchema, read_table
from domix.study import CLIP, Run, Study, list_runs, study_of

BASELINE = "natural-only"
UPPER_BOUNDS = ("cg-high-all", "cg-low-all")  # in order of preference
ANALYSES = {  # columns, for where an unfinished study lacks a table
    "umap.parquet": ["mixture", "seed", "row", "domain", "class", "withheld", "x", "y"],
    "distances.parquet": ["mixture", "seed", "kind", "domain_a", "domain_b", "distance"],
    "cka.parquet": ["mixture", "seed", "layer", "depth", "kernel", "classes", "domain_a", "domain_b", "n", "value"],
}


@dataclass(frozen=True)
class Leakage:
    """What the stage leakage found in the mixtures asked for: its tables, and how it searched (`meta`)."""

    duplicates: pd.DataFrame
    summary: pd.DataFrame
    domains: pd.DataFrame
    meta: dict[str, Any]


@dataclass(frozen=True)
class Results:
    """What a study found: what was shown to the models, and what they made of it.

    Its `study` has the runs of every mixture of which at least one is complete. Frames hold the columns of
    docs/architecture.md, rows of CLIP models alone; what is known of other models, and of all seeds together, is in
    `further`. `log` holds every run's log.csv with `mixture` and `seed` added; `models` maps (mixture, seed) to its two
    JSON files. `missing` names what an unfinished study lacks: its `leakage` may be empty.
    """

    study: Study
    confidence: float
    summary: dict[str, Any]
    cells: pd.DataFrame
    metrics: pd.DataFrame
    per_class: pd.DataFrame
    paired: pd.DataFrame
    predictions: pd.DataFrame
    umap: pd.DataFrame
    distances: pd.DataFrame
    cka: pd.DataFrame
    leakage: Leakage
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
        """The mixture of natural pictures alone, if it was trained."""
        return self.named(BASELINE)

    @property
    def upper_bound(self) -> str | None:
        """The mixture that was shown the tested cells too, if one was trained."""
        return next((name for name in map(self.named, UPPER_BOUNDS) if name), None)

    def named(self, standard_name: str) -> str | None:
        """Return what the study calls the mixture of a standard name; None if no CLIP model is of it."""
        return self.study.named(standard_name)

    def first(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of each mixture's first seed."""
        seeds = {m: next((s for s in self.seeds if (m, s) in self.models), None) for m in self.mixtures}
        return frame[frame["seed"] == frame["mixture"].map(seeds)]

    def tested_samples(self, mixture: str) -> int:
        """Return how many samples of the tested cells (test classes in the test domain) a mixture holds."""
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
    unfinished: bool = False,
) -> Results:
    """Read the tables of the runs `mixtures` x `seeds` below the folder `artifacts`.

    Args:
        supervised: mixtures of the classifiers that stand beside.
        public: names of the public models that do.
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
        return read_runs(artifacts / "eval" / f"{schema.name}.parquet", wanted, schema=schema)

    def analysis(name: str) -> pd.DataFrame:
        return read_runs(artifacts / "analysis" / name, wanted, missing if unfinished else None)

    return Results(
        study=study,
        confidence=confidence,
        summary=summary,
        cells=read_mixtures(artifacts / "mixtures/cells.parquet", begun, CELLS),
        metrics=table(METRICS),
        per_class=table(PER_CLASS),
        paired=_read_paired(artifacts / "eval" / "paired.parquet", wanted),
        predictions=table(PREDICTIONS),
        umap=analysis("separation/umap.parquet"),
        distances=analysis("separation/distances.parquet"),
        cka=analysis("cka/cka.parquet"),
        leakage=_read_leakage(artifacts / "analysis" / "leakage", begun, missing if unfinished else None),
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
        raise DataError(f"no run of {artifacts} is both trained and evaluated yet: run dvc repro")
    return complete


def read_runs(
    path: Path,
    wanted: Sequence[tuple[str, int]],
    missing: list[str] | None = None,
    *,
    schema: TableSchema | None = None,
) -> pd.DataFrame:
    """Read the rows of CLIP models asked for, ordered by run; the order inside a run stays.

    Args:
        missing: where to name a table or runs that are not there; None: that is an error.
        schema: of a table that holds models of all kinds.
    """
    if missing is not None and not path.exists():
        missing.append(f"{path.parent.name}/{path.name}")
        return pd.DataFrame(columns=ANALYSES[path.name])
    frame = schema.read(path) if schema else read_table(path)
    if schema:
        frame = frame[frame["kind"] == CLIP]
    order = {run: position for position, run in enumerate(dict.fromkeys(m for m, _ in wanted))}
    runs = pd.Series(list(zip(frame["mixture"], frame["seed"], strict=True)), index=frame.index, dtype=object)
    frame = frame[runs.isin(set(wanted))]
    if lacking := sorted(set(wanted) - set(runs)):
        if missing is None:
            raise DataError(f"{path} holds nothing for {lacking[0][0]} seed {lacking[0][1]}: run dvc repro")
        missing += [f"{m} seed {s} in {path.parent.name}/{path.name}" for m, s in lacking]
    return frame.sort_values("mixture", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


def read_mixtures(path: Path, mixtures: Sequence[str], schema: TableSchema | None = None) -> pd.DataFrame:
    """Read the rows of the mixtures asked for, in their order.

    Raises:
        DataError: there are none for one of them.
    """
    frame = schema.read(path) if schema else read_table(path)
    frame = frame[frame["mixture"].isin(mixtures)]
    if lacking := sorted(set(mixtures) - set(frame["mixture"])):
        raise DataError(f"{path} holds nothing for {lacking[0]}: run dvc repro")
    order = {name: position for position, name in enumerate(mixtures)}
    return frame.sort_values("mixture", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


def _read_paired(path: Path, wanted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    """Read the comparisons between runs asked for; there are none where there is one mixture."""
    frame = PAIRED.read(path)
    runs = set(wanted)
    pairs = zip(frame["mixture"], frame["baseline"], frame["seed"], strict=True)
    asked = [(m, s) in runs and (b, s) in runs for m, b, s in pairs]
    return frame[(frame["kind"] == CLIP) & pd.Series(asked, index=frame.index, dtype=bool)].reset_index(drop=True)


def _read_leakage(folder: Path, mixtures: Sequence[str], missing: list[str] | None) -> Leakage:
    """Read what was found in the mixtures asked for; pairs keep those of them that show the training sample."""
    if missing is not None:
        summary = folder / "summary.parquet"
        if not summary.exists() or set(mixtures) - set(read_table(summary)["mixture"]):
            missing.append("the leakage audit of all these mixtures")
            return Leakage(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), {})
    pairs = read_table(folder / "duplicates.parquet")
    pairs["mixtures"] = [[name for name in mixtures if name in set(shown)] for shown in pairs["mixtures"]]
    return Leakage(
        duplicates=pairs[pairs["mixtures"].map(len) > 0].reset_index(drop=True),
        summary=read_mixtures(folder / "summary.parquet", mixtures),
        domains=read_mixtures(folder / "domains.parquet", mixtures),
        meta=read_json(folder / "meta.json"),
    )


def _read_logs(folder: Path, wanted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    frames = []
    for mixture, seed in wanted:
        path = folder / Run(CLIP, mixture, seed).name / "log.csv"
        try:
            log = pd.read_csv(path)
        except FileNotFoundError:
            raise DataError(f"{path} is missing: run the stage that makes it (dvc repro)") from None
        frames.append(log.assign(mixture=mixture, seed=seed))
    return pd.concat(frames, ignore_index=True)
