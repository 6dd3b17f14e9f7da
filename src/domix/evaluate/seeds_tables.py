"""The tables over seeds: every mixture's estimates, and its comparison with the baselines.

An estimate is the mean over the seeds of a mixture and, of each, over the last checkpoints asked for. Its interval
covers the choice of classes, of pictures and of seeds (domix.evaluate.bootstrap); with one seed, that seed's model is
all that it speaks of.

Shapes: n pictures of a group, R models, B resamples, P pairs of mixtures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.evaluate.bootstrap import Floats, Resamples, over_seeds
from domix.evaluate.measures import BALANCED, MACRO_F1, POOLED, balanced_metrics, estimates, right
from domix.evaluate.outcomes import Group, Plan, Run, groups
from domix.evaluate.statistics import NONE, Interval, detectable_difference, holm
from domix.evaluate.tables import BASELINES, interval_of, metric_row, p_values, resample_jointly
from domix.runtime.seeds import derive

FAMILY = ["kind", "domain", "cells", "metric"]  # comparisons that are corrected together
MIXTURE_COLUMNS = [
    *["kind", "mixture", "domain", "cells", "metric", "estimate", "low", "high", "n", "n_classes"],
    *["seeds", "checkpoints", "chance", "method"],
]
COMPARISON_COLUMNS = [
    *FAMILY,
    *["mixture", "baseline", "difference", "low", "high", "p_value", "p_holm", "n", "n_classes"],
    *["seeds", "checkpoints", "detectable"],
]


@dataclass(frozen=True)
class Arm:
    """One mixture of one kind, with all its seeds: what a comparison compares."""

    runs: Sequence[Run]
    places: Sequence[int]  # of its runs among all

    @property
    def keys(self) -> dict[str, Any]:
        """The columns that name it."""
        return {"kind": self.runs[0].model.kind, "mixture": self.runs[0].model.mixture}

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


def arms(runs: Sequence[Run]) -> list[Arm]:
    """Gather the seeds of every mixture, in the order of the runs."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, run in enumerate(runs):
        found.setdefault((run.model.kind, run.model.mixture), []).append(place)
    return [Arm([runs[place] for place in places], places) for places in found.values()]


def mixture_table(runs: Sequence[Run], metrics: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Estimate every measure of every mixture over its seeds and last checkpoints.

    Args:
        runs: all models.
        metrics: their metrics table, from which models without further seeds and checkpoints are taken.

    Returns:
        `kind, mixture, domain, cells, metric, estimate, low, high, n, n_classes, seeds, checkpoints, chance, method`.
    """
    every = arms(runs)
    parts = [_as_it_is(metrics, arm) for arm in every if arm.alone]
    several = [arm for arm in every if not arm.alone]
    if several:
        found = list(groups(runs[0].final.rows, plan))
        parts += [pd.DataFrame([row for group in found for row in _measure(several, group, plan)])]
    frame = pd.concat(parts, ignore_index=True)
    order = {tuple(arm.keys.values()): place for place, arm in enumerate(every)}
    place = [order[key] for key in zip(frame["kind"], frame["mixture"], strict=True)]
    return frame.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)[MIXTURE_COLUMNS]


def _as_it_is(metrics: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """Return the rows of a mixture's only model."""
    rows = metrics
    for name, value in arm.runs[0].model.keys.items():
        rows = rows[rows[name] == value]
    return rows.drop(columns="seed").assign(**arm.counts)


def _measure(several: Sequence[Arm], group: Group, plan: Plan) -> list[dict[str, Any]]:
    """Return the rows of some mixtures for one group."""
    resampled = resample_jointly(shares(several, group, plan), group, plan)
    rows, first = [], 0
    for arm in several:
        mine = slice(first, first + len(arm.runs))
        first += len(arm.runs)
        found = _estimates(arm, group, plan)
        drawn = {metric: made.balanced for metric, made in resampled.items()} | {POOLED: resampled[BALANCED].pooled}
        for metric, estimate in found.items():
            interval = Interval(estimate, np.nan, np.nan, NONE)
            if metric != MACRO_F1:
                over = _over_seeds(drawn[metric][:, mine], arm, group, plan)
                interval = interval_of(estimate, over, group, plan)
            rows.append(arm.keys | metric_row(metric, interval, group, plan) | arm.counts)
    return rows


def _estimates(arm: Arm, group: Group, plan: Plan) -> dict[str, float]:
    """Return every measure's mean over an arm's models and checkpoints."""
    found = pd.DataFrame([estimates(outcome, group, plan) for run in arm.runs for outcome in run.outcomes])
    return {str(metric): float(value) for metric, value in found.mean().items()}


def shares(several: Sequence[Arm], group: Group, plan: Plan) -> dict[str, Floats]:
    """Return how often each picture is right over a model's last checkpoints: measure -> [n, R], arm by arm."""
    made: dict[str, list[NDArray[np.float64]]] = {metric: [] for metric in balanced_metrics(group, plan)}
    for run in (run for arm in several for run in arm.runs):
        correct = [right(outcome, group, plan) for outcome in run.outcomes]
        for metric, columns in made.items():
            columns.append(np.mean([one[metric] for one in correct], axis=0))
    return {metric: np.stack(columns, axis=1) for metric, columns in made.items()}


def _over_seeds(resampled: Floats, arm: Arm, group: Group, plan: Plan) -> Floats:
    """Draw an arm's seeds for each resample: [B, S] becomes [B]; every arm draws its own."""
    return over_seeds(resampled, seed=derive(group.seed(plan), *arm.keys.values()))


def comparison_table(runs: Sequence[Run], plan: Plan) -> pd.DataFrame:
    """Compare mixtures of one kind over their seeds, in the test domain and the natural domain.

    Every mixture is compared with each of BASELINES among them, each pair once: of two baselines, the one that stands
    first in BASELINES is the baseline.

    Returns:
        `kind, domain, cells, metric, mixture, baseline, difference, low, high, p_value, p_holm, n, n_classes, seeds,
        checkpoints, detectable`. p_holm is corrected over the family of all comparisons of one kind on one group of
        cells by one metric; `detectable` is the minimum detectable difference.
    """
    every = arms(runs)
    rows: list[dict[str, Any]] = []
    for group in groups(runs[0].final.rows, plan):
        if group.domain in (plan.test_domain, plan.natural_domain):
            rows += _compare(every, group, plan)
    frame = pd.DataFrame(rows, columns=COMPARISON_COLUMNS)
    if len(frame):
        frame["p_holm"] = frame.groupby(FAMILY, sort=False)["p_value"].transform(lambda p: holm(p.to_numpy()))
    return frame


def pairs(every: Sequence[Arm]) -> Iterator[tuple[int, int]]:
    """Yield the places of each mixture and baseline that are compared, each pair once."""
    for base in sorted(range(len(every)), key=lambda i: every[i].baseline or 0):
        for other in range(len(every)):
            first, second = every[base].baseline, every[other].baseline
            same = every[base].keys["kind"] == every[other].keys["kind"]
            if base != other and same and first is not None and (second is None or first < second):
                yield other, base


def _compare(every: Sequence[Arm], group: Group, plan: Plan) -> list[dict[str, Any]]:
    """Return a group's rows of the comparisons, p_holm still empty."""
    compared = list(pairs(every))
    if not compared:
        return []
    values = shares(every, group, plan)
    resampled = resample_jointly(values, group, plan)
    rows = []
    for metric, made in resampled.items():
        over = _by_arm(every, made, group, plan)
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


def _by_arm(every: Sequence[Arm], made: Resamples, group: Group, plan: Plan) -> Mapping[int, Floats]:
    """Return each arm's resampled balanced accuracy over its seeds: [B] each."""
    return {i: _over_seeds(made.balanced[:, arm.places], arm, group, plan) for i, arm in enumerate(every)}


def _class_mean(group: Group, values: Floats) -> float:
    """Return the mean over the classes of a group of each class's mean."""
    _, place, sizes = np.unique(group.label, return_inverse=True, return_counts=True)
    return float((np.bincount(place, weights=values) / sizes).mean())
