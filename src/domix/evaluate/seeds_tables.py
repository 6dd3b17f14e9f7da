"""The tables over seeds: every mixture's estimates, and its comparison with the baselines.

An estimate is the mean over the seeds of a mixture and, of each, over the last checkpoints asked for. Its interval
covers the choice of classes, of images and of seeds (domix.evaluate.bootstrap); with one seed, that seed's model is
all that it speaks of.

Shapes: n images of a group, R models, B resamples, P pairs of mixtures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.evaluate.bootstrap import Floats, Resamples, over_seeds
from domix.evaluate.measures import balanced_metrics, estimates, right
from domix.evaluate.outcomes import Group, Plan, RunOutcomes, groups
from domix.evaluate.schemas import BALANCED, COMPARISONS, MACRO_F1, MIXTURES, POOLED
from domix.evaluate.statistics import NONE, Interval, detectable_difference, holm
from domix.evaluate.tables import BASELINES, interval_of, metric_row, p_values, resample_jointly
from domix.runtime.seeds import derive

FAMILY = ["kind", "domain", "cells", "metric"]  # comparisons that are corrected together


@dataclass(frozen=True)
class Condition:
    """One mixture of one kind, with all its seeds: what a comparison compares."""

    runs: Sequence[RunOutcomes]
    places: Sequence[int]  # of its runs among all

    @property
    def keys(self) -> dict[str, Any]:
        """The columns that name it."""
        return {"kind": self.runs[0].model.run.kind, "mixture": self.runs[0].model.run.mixture}

    @property
    def counts(self) -> dict[str, Any]:
        """The columns that say what its estimates average."""
        return {"seeds": len(self.runs), "checkpoints": len(self.runs[0].outcomes)}

    @property
    def baseline(self) -> int | None:
        """Its place among BASELINES, if it is one."""
        name = self.runs[0].model.standard_name
        return BASELINES.index(name) if name in BASELINES else None

    @property
    def alone(self) -> bool:
        """Whether it is one model with one outcome, which the metrics table has measured."""
        return len(self.runs) == len(self.runs[0].outcomes) == 1


def arms(runs: Sequence[RunOutcomes]) -> list[Condition]:
    """Gather the seeds of every mixture, in the order of the runs."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault((run.model.run.kind, run.model.run.mixture), []).append(place)
    return [Condition([runs[place] for place in places], places) for places in found.values()]


def seeds_tables(runs: Sequence[RunOutcomes], metrics: pd.DataFrame, plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Estimate and compare mixtures over their seeds and last checkpoints.

    Every mixture is compared with each of BASELINES among those of its kind, in the test domain and the natural
    domain, each pair once: of two baselines, the one that stands first in BASELINES is the baseline.

    Args:
        runs: all models.
        metrics: their metrics table, from which models without further seeds and checkpoints are taken.

    Returns:
        The tables schemas.MIXTURES and schemas.COMPARISONS; p_holm is corrected over the family of all comparisons of
        one kind on one group of cells by one metric, `detectable` is the minimum detectable difference.
    """
    every = arms(runs)
    compared, several = list(pairs(every)), [arm for arm in every if not arm.alone]
    estimated, differences = [], []
    for group in groups(runs[0].final.rows, plan):
        wanted = compared if group.domain in (plan.study.test_domain, plan.study.natural_domain) else []
        if several or wanted:
            values = shares(runs, group, plan)
            resampled = resample_jointly(values, group, plan)
            estimated += _measure(several, resampled, group, plan)
            differences += _compare(every, wanted, values, resampled, group, plan)
    parts = [_as_it_is(metrics, arm) for arm in every if arm.alone]
    mixtures = pd.concat([*parts, *([pd.DataFrame(estimated)] if estimated else [])], ignore_index=True)
    order = {tuple(arm.keys.values()): place for place, arm in enumerate(every)}
    place = [order[key] for key in zip(mixtures["kind"], mixtures["mixture"], strict=True)]
    mixtures = mixtures.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)[MIXTURES.names]
    comparisons = pd.DataFrame(differences, columns=COMPARISONS.names)
    if differences:
        families = comparisons.groupby(FAMILY, sort=False)["p_value"]
        comparisons["p_holm"] = families.transform(lambda p: holm(p.to_numpy()))
    return mixtures, comparisons


def _as_it_is(metrics: pd.DataFrame, arm: Condition) -> pd.DataFrame:
    """Return the rows of a mixture's only model."""
    rows = metrics
    for name, value in arm.runs[0].model.run.keys.items():
        rows = rows[rows[name] == value]
    return rows.drop(columns="seed").assign(**arm.counts)


def _measure(
    several: Sequence[Condition], resampled: Mapping[str, Resamples], group: Group, plan: Plan
) -> list[dict[str, Any]]:
    """Return the rows of some mixtures for one group."""
    rows = []
    for arm in several:
        drawn = {metric: made.balanced for metric, made in resampled.items()} | {POOLED: resampled[BALANCED].pooled}
        for metric, estimate in _estimates(arm, group, plan).items():
            interval = Interval(estimate, np.nan, np.nan, NONE)
            if metric != MACRO_F1:
                interval = interval_of(estimate, _over_seeds(drawn[metric], arm, group, plan), group, plan)
            rows.append(arm.keys | metric_row(metric, interval, group, plan) | arm.counts)
    return rows


def _estimates(arm: Condition, group: Group, plan: Plan) -> dict[str, float]:
    """Return every measure's mean over an arm's models and checkpoints."""
    found = pd.DataFrame([estimates(outcome, group, plan) for run in arm.runs for outcome in run.outcomes])
    return {str(metric): float(value) for metric, value in found.mean().items()}


def shares(runs: Sequence[RunOutcomes], group: Group, plan: Plan) -> dict[str, Floats]:
    """Return how often each image is right over a model's last checkpoints: measure -> [n, R]."""
    made: dict[str, list[NDArray[np.float64]]] = {metric: [] for metric in balanced_metrics(group, plan)}
    for run in runs:
        correct = [right(outcome, group, plan) for outcome in run.outcomes]
        for metric, columns in made.items():
            columns.append(np.mean([one[metric] for one in correct], axis=0))
    return {metric: np.stack(columns, axis=1) for metric, columns in made.items()}


def _over_seeds(resampled: Floats, arm: Condition, group: Group, plan: Plan) -> Floats:
    """Draw an arm's seeds for each resample: of [B, R] its models', to [B]; every arm draws its own."""
    return over_seeds(resampled[:, arm.places], seed=derive(group.seed(plan), *arm.keys.values()))


def pairs(every: Sequence[Condition]) -> Iterator[tuple[int, int]]:
    """Yield the places of each mixture and baseline that are compared, each pair once."""
    for base in sorted(range(len(every)), key=lambda i: every[i].baseline or 0):
        for other in range(len(every)):
            first, second = every[base].baseline, every[other].baseline
            same = every[base].keys["kind"] == every[other].keys["kind"]
            if base != other and same and first is not None and (second is None or first < second):
                yield other, base


def _compare(
    every: Sequence[Condition],
    compared: Sequence[tuple[int, int]],
    values: Mapping[str, Floats],
    resampled: Mapping[str, Resamples],
    group: Group,
    plan: Plan,
) -> list[dict[str, Any]]:
    """Return a group's rows of the comparisons, p_holm still empty."""
    rows = []
    for metric, made in resampled.items() if compared else ():
        over = [_over_seeds(made.balanced, arm, group, plan) for arm in every]
        means = [values[metric][:, arm.places].mean(axis=1) for arm in every]
        change = np.stack([means[other] - means[base] for other, base in compared], axis=1)  # [n, P]
        tested = p_values(change, group, plan)
        for pair, (other, base) in enumerate(compared):
            drawn = over[other] - over[base]
            interval = interval_of(_class_mean(group, change[:, pair]), drawn, group, plan, least=-1.0)
            names = {"metric": metric, "mixture": every[other].keys["mixture"]}
            ends = {"difference": interval.estimate, "low": interval.low, "high": interval.high}
            found = {"p_value": tested[pair], "p_holm": np.nan} | group.counts | every[other].counts
            least = {"detectable": detectable_difference(drawn, confidence=plan.confidence)}
            kind = {"kind": every[other].keys["kind"]}
            rows.append(kind | group.keys | names | {"baseline": every[base].keys["mixture"]} | ends | found | least)
    return rows


def _class_mean(group: Group, values: Floats) -> float:
    """Return the mean over the classes of a group of each class's mean."""
    _, place, sizes = np.unique(group.label, return_inverse=True, return_counts=True)
    return float((np.bincount(place, weights=values) / sizes).mean())
