"""Measure the evaluation at real size, with generated answers: how long its tables take, and their memory.

    python -m tools.bench_evaluate [NAME ...]      all, or some of: model, study

model   the tables of one model: 150,000 images of six domains, scores of 345 classes, 10,000 resamples
study   the tables over seeds, and the comparisons, of 4 mixtures x 3 seeds on the same images

Each measurement runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from domix.embed.embeddings import FORMAT, ROW_COLUMNS
from domix.evaluate.outcomes import Outcome, Plan, RunOutcomes, ScoredModel
from domix.evaluate.ranking import Ranks
from domix.evaluate.seeds_tables import seeds_tables
from domix.evaluate.tables import class_table, metric_table, paired_table, prediction_table
from domix.evaluate.trajectories import follow
from domix.runtime.files import write_json
from domix.runtime.tables import write_table
from domix.study import Run, Study
from tools import bench_data
from tools.bench_data import memory, say

IMAGES, CLASSES, TESTED, SEEDS = 150_000, 345, 15, 3
DOMAINS = ["clipart", "infograph", "painting", "quickdraw", "real", "sketch"]
SHARES = [0.083, 0.089, 0.126, 0.293, 0.294, 0.115]  # of DomainNet's images
MIXTURES = {"natural-only": 0.2, "leave-out-domain": 0.25, "cg-low": 0.22, "cg-high": 0.3}


def images() -> pd.DataFrame:
    """Make rows of test images, in classes of very different sizes."""
    rng = np.random.default_rng(0)
    ease = rng.gamma(4.0, size=CLASSES)
    domain = np.repeat(DOMAINS, np.round(IMAGES * np.array(SHARES)).astype(int))
    label = rng.choice(CLASSES, len(domain), p=ease / ease.sum())
    names = np.array([f"class_{k:03d}" for k in range(CLASSES)], dtype=object)
    frame = pd.DataFrame({"domain": domain, "class": names[label], "label": label}).sort_values(
        ["domain", "label"], kind="stable", ignore_index=True
    )
    keys = [f"image_{number:06d}" for number in range(len(frame))]
    return frame.assign(row=np.arange(len(frame)), key=keys)[list(ROW_COLUMNS)]


def plan() -> Plan:
    """Return what a study measures."""
    names = [f"class_{k:03d}" for k in range(CLASSES)]
    study = Study("clipart", "real", tuple(names[:TESTED]), tuple(DOMAINS), tuple(names))
    return Plan(study, 5, 10_000, 0.95, 0)


def bench_model(folder: Path) -> None:
    """Make the tables of one model from its scores."""
    rows, rng = images(), np.random.default_rng(1)
    scores = rng.normal(size=(len(rows), CLASSES)).astype(np.float32)
    scores[np.arange(len(rows)), rows["label"]] += 2.0
    np.save(folder / "scores.npy", scores)
    del scores
    write_table(folder / "rows.parquet", rows)
    about = {"format": FORMAT, "model_sha256": "0" * 64, "source": "made", "domains": DOMAINS, "epochs": 1}
    write_json(folder / "meta.json", about | {"classes": list(plan().study.classes)})
    before, started = memory(), time.perf_counter()
    course = follow(ScoredModel(Run("supervised", "cg-high", 0), "cg-high", folder), plan())
    read = time.perf_counter()
    outcomes = [course.run.final]
    metrics = metric_table(outcomes, plan())
    tables = [class_table(outcomes, plan()), paired_table(outcomes, plan()), prediction_table(outcomes, plan())]
    seconds = time.perf_counter() - started
    print(f"evaluation of one model: {len(rows):,} images x {CLASSES} classes, {plan().resamples:,} resamples")
    say("predictions and estimates, s", f"{read - started:.1f}")
    say("all tables, s", f"{seconds:.1f}", "10")
    say("rows", f"{len(metrics) + sum(map(len, tables)):,}")
    say("peak memory, GB", f"{memory():.2f}", f"2, of which {before:.2f} made the scores")


def bench_study(folder: Path) -> None:
    """Make the tables over seeds of several mixtures from made-up ranks."""
    rows, rng, runs = images(), np.random.default_rng(2), []
    for mixture, skill in MIXTURES.items():
        for seed in range(SEEDS):
            rank = np.where(rng.random(len(rows)) < skill, 1, 9).astype(np.int32)
            ranks = Ranks(rows["label"].to_numpy(dtype=np.int32), rank, rank)
            model = ScoredModel(Run("clip", mixture, seed), mixture, folder)
            runs.append(RunOutcomes(model, [Outcome(model, 1, rows, ranks)]))
    started = time.perf_counter()
    mixtures, comparisons = seeds_tables(runs, pd.DataFrame(), plan())
    print(f"evaluation over seeds: {len(MIXTURES)} mixtures x {SEEDS} seeds, {len(rows):,} images")
    say("estimates and comparisons, s", f"{time.perf_counter() - started:.1f}")
    say("rows", f"{len(mixtures) + len(comparisons):,}")
    say("peak memory, GB", f"{memory():.2f}", "2")


BENCHES: dict[str, Callable[[Path], None]] = {"model": bench_model, "study": bench_study}


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    return bench_data.run("bench_evaluate", BENCHES, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
