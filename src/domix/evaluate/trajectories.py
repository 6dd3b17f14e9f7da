"""Runs, checkpoint by checkpoint: their tables over training, and the outcomes that estimates average.

A run's checkpoints are those that were embedded beside the last weights. The last weights are the last checkpoint;
where one was kept after as many epochs, the two are the same weights and count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from domix.embed.embeddings import checkpoints_of, load_scored
from domix.evaluate.measures import estimates
from domix.evaluate.outcomes import Outcome, Plan, RunOutcomes, ScoredModel, classify, groups
from domix.evaluate.schemas import CURVES, CURVES_PER_CLASS
from domix.evaluate.tables import class_counts
from domix.runs import PUBLIC
from domix.runtime.errors import DataError


@dataclass(frozen=True)
class Trajectory:
    """One run, and its rows of the two tables over checkpoints; of a public model these have none."""

    run: RunOutcomes
    curve: pd.DataFrame  # schemas.CURVES
    by_class: pd.DataFrame  # schemas.CURVES_PER_CLASS


def follow(model: ScoredModel, plan: Plan) -> Trajectory:
    """Classify the test images with every checkpoint of a run; only the outcomes that are averaged stay in memory.

    Raises:
        DataError: embeddings are missing, damaged or of other images, or fewer checkpoints were kept than estimates
            are to average.
    """
    final = load_scored(model.folder, model.run.kind)
    if model.run.kind == PUBLIC:
        outcome = classify(final, plan, model, 0)
        return Trajectory(
            RunOutcomes(model, [outcome]),
            pd.DataFrame(columns=CURVES.names),
            pd.DataFrame(columns=CURVES_PER_CLASS.names),
        )
    epochs = epochs_of(model)
    _require_enough(model, len(epochs), plan.last)
    outcomes, curve, by_class = [], [], []
    for place, (epoch, checkpoint) in enumerate(epochs):
        scored = final if checkpoint is None else load_scored(model.folder, model.run.kind, checkpoint=checkpoint)
        outcome = classify(scored, plan, model, epoch)
        curve.append(_curve(outcome, plan))
        by_class.append(_by_class(outcome, plan))
        if place >= len(epochs) - plan.last:
            outcomes.append(outcome)
    return Trajectory(
        RunOutcomes(model, outcomes), pd.concat(curve, ignore_index=True), pd.concat(by_class, ignore_index=True)
    )


def epochs_of(model: ScoredModel) -> list[tuple[int, int | None]]:
    """List a run's checkpoints, rising: after how many epochs, and as which checkpoint (None: the last weights)."""
    kept = checkpoints_of(model.folder)
    last = final_epoch(load_scored(model.folder, model.run.kind).meta, kept)
    return [*((epoch, epoch) for epoch in kept if epoch != last), (last, None)]


def final_epoch(meta: Mapping[str, Any], kept: Sequence[int]) -> int:
    """Return the number of the last weights among checkpoints: the epochs of their training, a begun one counted whole.

    Embeddings that do not say it (`epochs` in meta.json) are of weights that come after those kept.
    """
    epochs = meta.get("epochs")
    return int(epochs) if epochs is not None else kept[-1] + 1 if kept else 0


def _require_enough(model: ScoredModel, found: int, wanted: int) -> None:
    if found < wanted:
        raise DataError(
            f"the last {wanted} checkpoints are asked for, but {model.folder} holds {found}: keep and embed more, or"
            " ask for fewer",
            argument="last",
        )


def _curve(outcome: Outcome, plan: Plan) -> pd.DataFrame:
    rows = [
        outcome.model.run.keys
        | {"checkpoint": outcome.checkpoint}
        | group.keys
        | {"metric": metric, "estimate": estimate}
        | group.counts
        for group in groups(outcome.rows, plan)
        for metric, estimate in estimates(outcome, group, plan).items()
    ]
    return pd.DataFrame(rows, columns=CURVES.names)


def _by_class(outcome: Outcome, plan: Plan) -> pd.DataFrame:
    """Return how many images of each test class are right, in the test domain and in the natural domain."""
    parts = [
        class_counts(outcome, group, plan).assign(checkpoint=outcome.checkpoint)
        for group in groups(outcome.rows, plan)
        if group.of_test_classes and group.domain in (plan.study.test_domain, plan.study.natural_domain)
    ]
    return (
        pd.concat(parts, ignore_index=True)[CURVES_PER_CLASS.names]
        if parts
        else pd.DataFrame(columns=CURVES_PER_CLASS.names)
    )
