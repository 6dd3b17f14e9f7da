"""The tables over seeds of one test domain whose runs lie in several places: measured anew from their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from domix.evaluate.effective import study_rows
from domix.evaluate.outcomes import Outcome, Plan, RunOutcomes, ScoredModel, check_same_images
from domix.evaluate.ranking import Ranks
from domix.evaluate.schemas import AMONG_TEST, PREDICTIONS
from domix.evaluate.seeds_tables import seeds_tables
from domix.report.paper.mixtures import BASELINE
from domix.report.paper.place import PlaceResults, runs_of
from domix.runs import PUBLIC, Run
from domix.runtime.errors import DataError


def measure_anew(parts: Sequence[PlaceResults], metrics: pd.DataFrame, curves: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the tables mixtures, comparisons and effective over the runs of several places.

    Predictions do not tell the rank among the test classes alone, so that measure is left out.

    Args:
        metrics: that table over all places, each run once; so is `curves`.

    Raises:
        DataError: estimates average checkpoints, whose predictions are not kept, or the images are not the same.
    """
    plan = _plan(parts[0])
    if plan.last > 1:
        labels = " and ".join(part.place.label for part in parts)
        raise DataError(
            f"the runs of the test domain {plan.study.test_domain} lie in {labels}, and evaluate.last is {plan.last}:"
            " last checkpoints can be averaged only where all seeds and mixtures are evaluated in one place"
        )
    runs = _runs(parts, plan)
    check_same_images([run.final for run in runs])
    mixtures, comparisons = seeds_tables(runs, metrics, plan)
    trained = {(kind, mixture) for kind, mixture, _ in runs_of(metrics)}
    return {
        "mixtures": _without_among(mixtures),
        "comparisons": _without_among(comparisons),
        "effective": study_rows(curves, plan, reference=BASELINE if ("clip", BASELINE) in trained else None),
    }


def _plan(part: PlaceResults) -> Plan:
    evaluation = part.place.params["evaluate"]
    return Plan(
        study=part.study,
        top_k=evaluation["top_k"],
        resamples=evaluation["bootstrap"],
        confidence=evaluation["confidence"],
        seed=evaluation["seed"],
        last=evaluation["last"],
    )


def _runs(parts: Sequence[PlaceResults], plan: Plan) -> list[RunOutcomes]:
    """Read every run's predictions once, the runs of one mixture by rising seed."""
    found: dict[tuple[str, str, int], RunOutcomes] = {}
    for part in parts:
        predictions = part.renamed(PREDICTIONS.read(part.place.artifacts / "eval" / "predictions.parquet"))
        for kind, mixture, seed in sorted(runs_of(predictions) - found.keys()):
            chosen = (predictions["kind"] == kind) & (predictions["mixture"] == mixture) & (predictions["seed"] == seed)
            found[kind, mixture, seed] = _run((kind, mixture, seed), predictions[chosen], plan)
    mixtures = list(dict.fromkeys((kind, mixture) for kind, mixture, _ in found))
    return [found[key] for key in sorted(found, key=lambda key: (mixtures.index(key[:2]), key[2]))]


def _run(key: tuple[str, str, int], rows: pd.DataFrame, plan: Plan) -> RunOutcomes:
    kind, mixture, seed = key
    place = {name: label for label, name in enumerate(plan.study.classes)}
    images = rows[["row", "domain", "class"]].assign(label=rows["class"].map(place)).reset_index(drop=True)
    predicted = rows["predicted"].map(place).to_numpy(dtype=np.int32)
    rank = rows["rank"].to_numpy(dtype=np.int32)
    model = ScoredModel(Run(kind, mixture, seed), "" if kind == PUBLIC else mixture, Path())
    return RunOutcomes(model, [Outcome(model, 0, images, Ranks(predicted, rank, np.zeros_like(rank)))])


def _without_among(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["metric"] != AMONG_TEST].reset_index(drop=True)
