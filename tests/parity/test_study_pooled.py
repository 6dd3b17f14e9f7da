"""Seeds and mixtures that lie in several places give the very tables of one evaluation of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from domix.cli.studies.places import this_workspace
from domix.evaluate import tables
from domix.evaluate.effective import study_rows
from domix.evaluate.outcomes import Outcome, Plan, RunOutcomes, ScoredModel
from domix.evaluate.ranking import Ranks
from domix.evaluate.schemas import AMONG_TEST
from domix.evaluate.seeds_tables import seeds_tables
from domix.report.paper.collection import collect
from domix.runtime.errors import DataError
from domix.runtime.seeds import derive
from domix.runtime.tables import read_table, write_table
from domix.study import Run, Split, Study
from tools.made_study import Asked, Workspace, make_workspace

MIXTURES, SEEDS, PER_CELL = ("natural-only", "cg-high", "cg-high-all"), (0, 1, 2), 5
WHOLE = Asked(
    test_domains=("clipart",), mixtures=MIXTURES, seeds=SEEDS, checkpoints=(0, 2, 4, 8), classes=9, test_classes=4
)


def the_plan(asked: Asked) -> Plan:
    workspace = Workspace(Path(), "clipart", asked)
    split: Split = workspace.split
    return Plan(Study(**vars(split)), 5, 10_000, 0.95, 0)


def the_runs(asked: Asked, plan: Plan) -> list[RunOutcomes]:
    """Draw what each model says of the images, the same whoever else is asked for."""
    cells = [(d, c) for d in ("clipart", "real") for c in plan.study.classes for _ in range(PER_CELL)]
    rows = pd.DataFrame(cells, columns=["domain", "class"])
    rows.insert(0, "row", np.arange(len(rows)))
    rows["label"] = rows["class"].map({name: label for label, name in enumerate(plan.study.classes)})
    runs = []
    for mixture in asked.mixtures:
        for seed in asked.seeds:
            rng = np.random.default_rng(derive(1, mixture, str(seed)))
            rank = rng.integers(1, 2 + 2 * (MIXTURES[::-1].index(mixture) + 1), len(rows)).astype(np.int32)
            wrong = ((rows["label"] + 1) % len(plan.study.classes)).to_numpy(dtype=np.int32)
            predicted = np.where(rank == 1, rows["label"].to_numpy(dtype=np.int32), wrong)
            among = np.where(rows["label"].isin(plan.study.test_labels), rank, 0).astype(np.int32)
            model = ScoredModel(Run("clip", mixture, seed), mixture, Path())
            runs.append(RunOutcomes(model, [Outcome(model, 8, rows, Ranks(predicted, rank, among))]))
    return runs


def evaluated(folder: Path, asked: Asked, **changed: object) -> Path:
    """Make a workspace whose tables domix.evaluate has made; its curves are made up."""
    make_workspace(folder, "clipart", asked, **changed)
    plan = the_plan(asked)
    runs = the_runs(asked, plan)
    outcomes = [run.final for run in runs]
    metrics = tables.metric_table(outcomes, plan)
    mixtures, comparisons = seeds_tables(runs, metrics, plan)
    curves = read_table(folder / "artifacts" / "eval" / "curves.parquet")
    made = {
        "metrics": metrics,
        "mixtures": mixtures,
        "comparisons": comparisons,
        "predictions": tables.prediction_table(outcomes, plan),
        "effective": study_rows(curves, plan, reference="natural-only" if "natural-only" in asked.mixtures else None),
    }
    for name, frame in made.items():
        write_table(folder / "artifacts" / "eval" / f"{name}.parquet", frame)
    return folder


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[frame["metric"] != AMONG_TEST] if "metric" in frame else frame
    keys = ["kind", "mixture", "baseline", "seed", "checkpoint", "domain", "cells", "metric", "transform", "class"]
    return frame.sort_values([key for key in keys if key in frame]).reset_index(drop=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    folder = evaluated(tmp_path_factory.mktemp("whole") / "clipart", WHOLE)
    return collect([this_workspace(folder)]).tables


@pytest.mark.parametrize(
    "parts",
    [
        [replace(WHOLE, seeds=(0,)), replace(WHOLE, seeds=(1, 2))],
        [replace(WHOLE, seeds=(0, 1)), replace(WHOLE, seeds=(1, 2))],  # one seed in both
        [replace(WHOLE, mixtures=MIXTURES[:1]), replace(WHOLE, mixtures=MIXTURES[1:])],
    ],
    ids=["seeds", "seeds that overlap", "mixtures"],
)
def test_several_places_give_the_tables_of_one(
    whole: dict[str, pd.DataFrame], parts: Sequence[Asked], tmp_path: Path
) -> None:
    places = [this_workspace(evaluated(tmp_path / str(number), part)) for number, part in enumerate(parts)]
    study = collect(places)
    assert study.mark == ""
    assert study.asked == len(MIXTURES) * len(SEEDS)
    for name, frame in study.tables.items():
        pd.testing.assert_frame_equal(in_order(frame), in_order(whole[name]), check_dtype=False)
    assert set(study.tables["mixtures"]["seeds"]) == {3}
    assert len(study.tables["comparisons"])


def test_averaged_checkpoints_cannot_be_put_together(tmp_path: Path) -> None:
    evaluate = YAML(typ="safe", pure=True).load(Path("presets/mini.yaml"))["evaluate"] | {"last": 3}
    parts = [replace(WHOLE, seeds=(0,)), replace(WHOLE, seeds=(1,))]
    places = [this_workspace(evaluated(tmp_path / str(n), part, evaluate=evaluate)) for n, part in enumerate(parts)]
    with pytest.raises(DataError, match=r"evaluate\.last is 3: last checkpoints can be averaged only where all seeds"):
        collect(places)
