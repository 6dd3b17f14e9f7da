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

from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.tables import read_table

BASELINE = "natural-only"
UPPER_BOUNDS = ("cg-high-all", "cg-low-all")  # in order of preference


@dataclass(frozen=True)
class Leakage:
    """What the stage leakage found in the mixtures asked for: its tables, and how it searched (`meta`)."""

    duplicates: pd.DataFrame
    summary: pd.DataFrame
    domains: pd.DataFrame
    meta: dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One study: what was shown to the models, and what they made of it.

    `mixtures` and `seeds` keep the order of the parameters. Frames hold the columns of docs/architecture.md; `log`
    holds every run's log.csv with `mixture` and `seed` added; `models` maps (mixture, seed) to its two JSON files.
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
    umap: pd.DataFrame
    distances: pd.DataFrame
    cka: pd.DataFrame
    leakage: Leakage
    log: pd.DataFrame
    models: dict[tuple[str, int], dict[str, Any]]

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

    def tested_samples(self, mixture: str) -> int:
        """Return how many samples of the tested cells (test classes in the test domain) a mixture holds."""
        mine = self.cells[(self.cells["mixture"] == mixture) & (self.cells["domain"] == self.test_domain)]
        return int(mine.loc[mine["class"].isin(self.test_classes), "samples"].sum())

    def shown_domains(self, mixture: str) -> list[str]:
        """Return the domains of which a mixture holds at least one sample, in the study's order."""
        totals = self.cells[self.cells["mixture"] == mixture].groupby("domain")["samples"].sum()
        return [domain for domain in self.domains if totals.get(domain, 0) > 0]


def load_study(artifacts: Path, mixtures: Sequence[str], seeds: Sequence[int], confidence: float) -> Study:
    """Read the tables of the runs `mixtures` x `seeds` below the folder `artifacts`.

    Raises:
        DataError: a file is missing or unreadable, or holds no rows for one of the runs.
    """
    summary = read_json(artifacts / "mixtures" / "summary.json")

    def table(name: str, keys: tuple[str, ...] = ("mixture", "seed")) -> pd.DataFrame:
        return _read_table(artifacts / name, mixtures, seeds, keys)

    models = {(m, s): _read_model(artifacts / "models" / "clip" / f"{m}-s{s}") for m in mixtures for s in seeds}
    return Study(
        test_domain=summary["test_domain"],
        natural_domain=summary["natural_domain"],
        domains=list(summary["domains"]),
        classes=list(summary["classes"]),
        test_classes=list(summary["test_classes"]),
        mixtures=list(mixtures),
        seeds=list(seeds),
        confidence=confidence,
        summary=summary,
        cells=table("mixtures/cells.parquet", ("mixture",)),
        metrics=table("eval/metrics.parquet"),
        per_class=table("eval/per_class.parquet"),
        paired=_read_paired(artifacts / "eval" / "paired.parquet", mixtures, seeds),
        predictions=table("eval/predictions.parquet"),
        umap=table("analysis/separation/umap.parquet"),
        distances=table("analysis/separation/distances.parquet"),
        cka=table("analysis/cka/cka.parquet"),
        leakage=_read_leakage(artifacts / "analysis" / "leakage", mixtures),
        log=_read_logs(artifacts / "models" / "clip", mixtures, seeds),
        models=models,
    )


def _read_table(path: Path, mixtures: Sequence[str], seeds: Sequence[int], keys: tuple[str, ...]) -> pd.DataFrame:
    """Read the rows of the runs asked for, ordered by run; the order inside a run stays."""
    frame = read_table(path)
    frame = frame[frame["mixture"].isin(mixtures)]
    if "seed" in keys:
        frame = frame[frame["seed"].isin(seeds)]
        wanted = {(m, s) for m in mixtures for s in seeds}
        found = set(zip(frame["mixture"], frame["seed"], strict=True))
    else:
        wanted, found = {(m,) for m in mixtures}, {(m,) for m in frame["mixture"]}
    if missing := sorted(wanted - found):
        raise DataError(f"{path} holds nothing for {' seed '.join(map(str, missing[0]))}: run dvc repro")
    order = {name: position for position, name in enumerate(mixtures)}
    return frame.sort_values("mixture", key=lambda column: column.map(order), kind="stable").reset_index(drop=True)


def _read_paired(path: Path, mixtures: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """Read the comparisons between mixtures asked for; there are none where there is one mixture."""
    frame = read_table(path)
    asked = frame["mixture"].isin(mixtures) & frame["baseline"].isin(mixtures) & frame["seed"].isin(seeds)
    return frame[asked].reset_index(drop=True)


def _read_leakage(folder: Path, mixtures: Sequence[str]) -> Leakage:
    """Read what was found in the mixtures asked for; pairs keep those of them that show the training sample."""
    pairs = read_table(folder / "duplicates.parquet")
    pairs["mixtures"] = [[name for name in mixtures if name in set(shown)] for shown in pairs["mixtures"]]
    return Leakage(
        duplicates=pairs[pairs["mixtures"].map(len) > 0].reset_index(drop=True),
        summary=_read_table(folder / "summary.parquet", mixtures, (), ("mixture",)),
        domains=_read_table(folder / "domains.parquet", mixtures, (), ("mixture",)),
        meta=read_json(folder / "meta.json"),
    )


def _read_model(folder: Path) -> dict[str, Any]:
    return {"config": read_json(folder / "config.json"), "done": read_json(folder / "done.json")}


def _read_logs(folder: Path, mixtures: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    frames = []
    for mixture in mixtures:
        for seed in seeds:
            path = folder / f"{mixture}-s{seed}" / "log.csv"
            try:
                log = pd.read_csv(path)
            except FileNotFoundError:
                raise DataError(f"{path} is missing: run the stage that makes it (dvc repro)") from None
            frames.append(log.assign(mixture=mixture, seed=seed))
    return pd.concat(frames, ignore_index=True)
