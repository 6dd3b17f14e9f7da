"""The tables of single models: predictions, accuracy by class, metrics with intervals, comparisons with equal seeds.

Shapes: n images of a group, M models, B resamples, P pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from domix.evaluate import metrics
from domix.evaluate.bootstrap import Floats, Resamples, bootstrap, bootstrap_jointly
from domix.evaluate.measures import chance, estimates, right
from domix.evaluate.outcomes import Group, Outcome, Plan, ScoredModel, groups
from domix.evaluate.schemas import BALANCED, MACRO_F1, PAIRED, PER_CLASS, POOLED
from domix.evaluate.statistics import NONE, Interval, clopper_pearson, holm, percentile_interval, sign_flip_test

BASELINES = ("natural-only", "leave-out-domain", "cg-low", "cg-high-all")


def prediction_table(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """Return the table schemas.PREDICTIONS: one row a model and image."""
    names = np.asarray(plan.study.classes, dtype=object)
    parts = [
        outcome.model.run.keys
        | {name: outcome.rows[name].to_numpy() for name in ("row", "domain", "class")}
        | {"predicted": names[outcome.ranks.predicted], "rank": outcome.ranks.rank.astype(np.int64)}
        for outcome in outcomes
    ]
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def class_table(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """Return the accuracy on each cell with images (schemas.PER_CLASS): one row a model and cell.

    The interval is Clopper and Pearson's, of images of this class.
    """
    parts = []
    for outcome in outcomes:
        for group in groups(outcome.rows, plan):
            if group.cells != "all":
                continue
            part = class_counts(outcome, group, plan)
            held_out = part["class"].isin(list(plan.study.test_classes)) & (group.domain == plan.study.test_domain)
            low, high = clopper_pearson(part["correct"], part["n"], plan.confidence)
            accuracy = part["correct"] / part["n"]
            parts.append(part.assign(held_out=held_out, accuracy=accuracy, low=low, high=high)[PER_CLASS.names])
    return pd.concat(parts, ignore_index=True)


def class_counts(outcome: Outcome, group: Group, plan: Plan) -> pd.DataFrame:
    """Return `kind, mixture, seed, domain, class, n, correct`: one row a class with images in the group."""
    correct = outcome.ranks.rank[group.where] == 1
    images, right = metrics.per_class(group.label, correct, len(plan.study.classes))
    labels = np.flatnonzero(images)
    names = np.asarray(plan.study.classes, dtype=object)[labels]
    columns = {"domain": group.domain, "class": names, "n": images[labels], "correct": right[labels]}
    return pd.DataFrame(outcome.model.run.keys | columns)


def metric_table(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """Measure every model on every group of images, each alone: nobody's numbers depend on who else is there.

    Returns:
        The table schemas.METRICS; low, high and chance are NaN and the method "none" for macro_f1.
    """
    found = list(groups(outcomes[0].rows, plan))
    return pd.DataFrame([row for outcome in outcomes for group in found for row in _measure(outcome, group, plan)])


def _measure(outcome: Outcome, group: Group, plan: Plan) -> list[dict[str, Any]]:
    """Return a model's rows of the metrics table for one group."""
    found, intervals = estimates(outcome, group, plan), {}
    for metric, correct in right(outcome, group, plan).items():
        resampled = bootstrap(group.label, correct, resamples=plan.resamples, seed=group.seed(plan))
        intervals[metric] = interval_of(found[metric], resampled.balanced, group, plan)
        if metric == BALANCED:
            intervals[POOLED] = interval_of(found[POOLED], resampled.pooled, group, plan)
    intervals[MACRO_F1] = Interval(found[MACRO_F1], np.nan, np.nan, NONE)
    return [outcome.model.run.keys | metric_row(metric, intervals[metric], group, plan) for metric in found]


def metric_row(metric: str, interval: Interval, group: Group, plan: Plan) -> dict[str, Any]:
    """Return a row of the metrics table but for the columns that name the model."""
    ends = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    last = {"chance": chance(metric, plan), "method": interval.method}
    return group.keys | {"metric": metric} | ends | group.counts | last


def interval_of(estimate: float, resampled: Floats, group: Group, plan: Plan, *, least: float = 0.0) -> Interval:
    """Return the interval of an estimate on a group from its resamples [B]."""
    return percentile_interval(estimate, resampled, confidence=plan.confidence, classes=group.classes, least=least)


def paired_table(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """Compare models of one kind and seed on the held-out cells: every mixture with each of BASELINES among them.

    Returns:
        The table schemas.PAIRED; p_holm is corrected over the mixtures compared with one baseline by one metric and
        seed.
    """
    rows: list[dict[str, Any]] = []
    for group in groups(outcomes[0].rows, plan):
        if group.cells == "held_out":
            rows += _pairs(outcomes, group, plan)
    paired = pd.DataFrame(rows, columns=PAIRED.names)
    families = paired.groupby(["kind", "seed", "domain", "cells", "metric", "baseline"], sort=False)["p_value"]
    paired["p_holm"] = families.transform(lambda p: holm(p.to_numpy())) if len(paired) else paired["p_value"]
    return paired


def _pairs(outcomes: Sequence[Outcome], group: Group, plan: Plan) -> list[dict[str, Any]]:
    """Return the rows of the paired table, p_holm still empty."""
    models = [outcome.model for outcome in outcomes]
    pairs = [(run, base) for base in range(len(models)) for run in range(len(models)) if _paired(models, run, base)]
    if not pairs:
        return []
    correct = [right(outcome, group, plan) for outcome in outcomes]
    values = {metric: np.stack([one[metric] for one in correct], axis=1).astype(np.float64) for metric in correct[0]}
    resampled = resample_jointly(values, group, plan)
    runs, bases = map(list, zip(*pairs, strict=True))
    tests = {metric: p_values(values[metric][:, runs] - values[metric][:, bases], group, plan) for metric in values}
    rows = []
    for pair, (run, base) in enumerate(pairs):
        for metric, balanced in resampled.items():
            ours, theirs = (metrics.balanced_accuracy(group.label, correct[i][metric]) for i in (run, base))
            change = balanced.balanced[:, run] - balanced.balanced[:, base]
            interval = interval_of(ours - theirs, change, group, plan, least=-1.0)
            names = {"metric": metric, "mixture": models[run].run.mixture, "baseline": models[base].run.mixture}
            ends = {"difference": interval.estimate, "low": interval.low, "high": interval.high}
            tested = {"p_value": tests[metric][pair], "p_holm": np.nan, "n": len(group.where)}
            rows.append(
                {"kind": models[run].run.kind, "seed": models[run].run.seed} | group.keys | names | ends | tested
            )
    return rows


def resample_jointly(values: Mapping[str, Floats], group: Group, plan: Plan) -> dict[str, Resamples]:
    """Resample a group of images for all measures and models at once: measure -> [n, M] becomes measure -> [B, M]."""
    columns = np.concatenate(list(values.values()), axis=1)
    made = bootstrap_jointly(group.label, columns, resamples=plan.resamples, seed=group.seed(plan))
    balanced, pooled = (np.split(part, len(values), axis=1) for part in (made.balanced, made.pooled))
    return {metric: Resamples(*parts) for metric, *parts in zip(values, balanced, pooled, strict=True)}


def p_values(difference: Floats, group: Group, plan: Plan) -> Floats:
    """Test paired differences of a group's images [n, P]: p-values [P]."""
    return sign_flip_test(group.label, difference, resamples=plan.resamples, seed=group.seed(plan))


def _paired(models: Sequence[ScoredModel], run: int, base: int) -> bool:
    """Tell whether two models are compared: of one kind and seed, the second a baseline."""
    ours, theirs = models[run], models[base]
    same = (ours.run.kind, ours.run.seed) == (theirs.run.kind, theirs.run.seed)
    return run != base and same and theirs.standard_name in BASELINES
