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
from domix.report.load.evaluation import CLIP, Asked, Further, read_further, read_model, with_kind
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.tables import read_table
from domix.study import Run

BASELINE = "natural-only"
UPPER_BOUNDS = ("cg-high-all", "cg-low-all")  # in order of preference
KINDED = ("metrics.parquet", "per_class.parquet", "predictions.parquet")  # tables that hold models of all kinds


@dataclass(frozen=True)
class Study:
    """One study: what was shown to the models, and what they made of it.

    `mixtures` and `seeds` keep the order of the parameters. Frames hold the columns of docs/architecture.md, rows of
    CLIP models alone; what is known of other models, and of all seeds together, is in `further`. `log` holds every
    run's log.csv with `mixture` and `seed` added; `models` maps (mixture, seed) to its two JSON files. `missing` names
    what an unfinished study lacks: an analysis may hold no rows and no facts. `analyses` are those asked for, by name.
    """

    test_domain: str
    natural_domain: str
    domains: list[str]
    classes: list[str]
    test_classes: list[str]
    mixtures: list[str]
    seeds: list[int]
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
    def baseline(self) -> str | None:
        """The mixture of natural pictures alone, if it was trained."""
        return self.named(BASELINE)

    @property
    def upper_bound(self) -> str | None:
        """The mixture that was shown the tested cells too, if one was trained."""
        return next((name for name in map(self.named, UPPER_BOUNDS) if name), None)

    def named(self, standard_name: str) -> str | None:
        """Return what the study calls the mixture of a standard name, which may be an alias; None if it has it not."""
        names = {mixture["standard_name"]: mixture["name"] for mixture in self.summary["mixtures"]}
        name = names.get(standard_name)
        return name if name in self.mixtures else None

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


def load_study(
    artifacts: Path,
    mixtures: Sequence[str],
    seeds: Sequence[int],
    confidence: float,
    *,
    supervised: Sequence[str] = (),
    public: Sequence[str] = (),
    analyses: Iterable[str] = (),
    unfinished: bool = False,
) -> Study:
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
    summary = read_json(artifacts / "mixtures" / "summary.json")
    wanted = [(m, s) for m in mixtures for s in seeds]
    missing: list[str] = []
    if unfinished:
        complete = complete_runs(artifacts, wanted)
        missing = [f"the evaluation of {m} seed {s}" for m, s in wanted if (m, s) not in complete]
        wanted = complete
    asked = Asked([m for m in mixtures if m in dict(wanted)], list(seeds), supervised, public)
    models = {(m, s): read_model(artifacts / "models" / CLIP / f"{m}-s{s}") for m, s in wanted}

    def table(name: str) -> pd.DataFrame:
        return read_runs(artifacts / name, wanted)

    def findings(name: str) -> Findings:
        runs = [Run(CLIP, mixture, seed) for mixture, seed in wanted]
        return read_findings(find(name), artifacts / "analysis" / name, runs, missing if unfinished else None)

    return Study(
        test_domain=summary["test_domain"],
        natural_domain=summary["natural_domain"],
        domains=list(summary["domains"]),
        classes=list(summary["classes"]),
        test_classes=list(summary["test_classes"]),
        mixtures=list(asked.mixtures),
        seeds=list(seeds),
        confidence=confidence,
        summary=summary,
        cells=read_mixtures(artifacts / "mixtures/cells.parquet", asked.mixtures),
        metrics=table("eval/metrics.parquet"),
        per_class=table("eval/per_class.parquet"),
        paired=_read_paired(artifacts / "eval" / "paired.parquet", wanted),
        predictions=table("eval/predictions.parquet"),
        analyses={name: findings(name) for name in analyses},
        log=_read_logs(artifacts / "models" / "clip", wanted),
        models=models,
        further=read_further(artifacts, asked, partial=unfinished),
        missing=missing,
    )


def complete_runs(artifacts: Path, wanted: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return those of the runs that are trained and evaluated.

    Raises:
        DataError: none is.
    """
    found = set(wanted)
    for name in ("metrics", "per_class", "predictions"):
        frame = with_kind(read_table(artifacts / "eval" / f"{name}.parquet"))
        frame = frame[frame["kind"] == CLIP]
        found &= set(zip(frame["mixture"], frame["seed"], strict=True))
    files = ("config.json", "done.json", "log.csv")
    folders = {(m, s): artifacts / "models" / CLIP / f"{m}-s{s}" for m, s in wanted}
    complete = [run for run in wanted if run in found and all((folders[run] / file).exists() for file in files)]
    if not complete:
        raise DataError(f"no run of {artifacts} is both trained and evaluated yet: run dvc repro")
    return complete


def read_runs(path: Path, wanted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    """Read the rows of CLIP models asked for, ordered by run; the order inside a run stays.

    Raises:
        DataError: there are none for one of them.
    """
    frame = read_table(path)
    if path.name in KINDED:
        frame = with_kind(frame)
        frame = frame[frame["kind"] == CLIP]
    order = {run: position for position, run in enumerate(dict.fromkeys(m for m, _ in wanted))}
    runs = pd.Series(list(zip(frame["mixture"], frame["seed"], strict=True)), index=frame.index, dtype=object)
    frame = frame[runs.isin(set(wanted))]
    if lacking := sorted(set(wanted) - set(runs)):
        raise DataError(f"{path} holds nothing for {lacking[0][0]} seed {lacking[0][1]}: run dvc repro")
    return frame.sort_values("mixture", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


def read_mixtures(path: Path, mixtures: Sequence[str]) -> pd.DataFrame:
    """Read the rows of the mixtures asked for, in their order.

    Raises:
        DataError: there are none for one of them.
    """
    frame = read_table(path)
    frame = frame[frame["mixture"].isin(mixtures)]
    if lacking := sorted(set(mixtures) - set(frame["mixture"])):
        raise DataError(f"{path} holds nothing for {lacking[0]}: run dvc repro")
    order = {name: position for position, name in enumerate(mixtures)}
    return frame.sort_values("mixture", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


def _read_paired(path: Path, wanted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    """Read the comparisons between runs asked for; there are none where there is one mixture."""
    frame = with_kind(read_table(path))
    runs = set(wanted)
    pairs = zip(frame["mixture"], frame["baseline"], frame["seed"], strict=True)
    asked = [(m, s) in runs and (b, s) in runs for m, b, s in pairs]
    return frame[(frame["kind"] == CLIP) & pd.Series(asked, index=frame.index, dtype=bool)].reset_index(drop=True)


def _read_logs(folder: Path, wanted: Sequence[tuple[str, int]]) -> pd.DataFrame:
    frames = []
    for mixture, seed in wanted:
        path = folder / f"{mixture}-s{seed}" / "log.csv"
        try:
            log = pd.read_csv(path)
        except FileNotFoundError:
            raise DataError(f"{path} is missing: run the stage that makes it (dvc repro)") from None
        frames.append(log.assign(mixture=mixture, seed=seed))
    return pd.concat(frames, ignore_index=True)
