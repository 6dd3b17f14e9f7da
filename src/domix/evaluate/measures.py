"""The measures of an evaluation: for each, which images are right, what the estimate is, and what guessing gives.

Shapes: n images of a group.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.evaluate import metrics
from domix.evaluate.outcomes import Group, Outcome, Plan
from domix.evaluate.schemas import AMONG_TEST, BALANCED, MACRO_F1, POOLED


def balanced_metrics(group: Group, plan: Plan) -> list[str]:
    """List the measures that are means of per-class accuracies."""
    wider = [balanced_top_k(plan)] if plan.top_k > 1 else []
    return [BALANCED, *wider, *([AMONG_TEST] if group.of_test_classes else [])]


def balanced_top_k(plan: Plan) -> str:
    """Name the balanced accuracy that takes any of the k best classes for an answer."""
    return f"balanced_top{plan.top_k}"


def right(outcome: Outcome, group: Group, plan: Plan) -> dict[str, NDArray[np.bool_]]:
    """Return which images [n] are right, by each of `balanced_metrics`."""
    rank = outcome.ranks.rank[group.where]
    made = {BALANCED: rank == 1}
    if plan.top_k > 1:
        made[balanced_top_k(plan)] = rank <= plan.top_k
    if group.of_test_classes:
        made[AMONG_TEST] = outcome.ranks.rank_among[group.where] == 1
    return made


def estimates(outcome: Outcome, group: Group, plan: Plan) -> dict[str, float]:
    """Return every measure's estimate, in the order of the tables."""
    correct = right(outcome, group, plan)
    made = {metric: metrics.balanced_accuracy(group.label, right) for metric, right in correct.items()}
    made[POOLED] = metrics.accuracy(correct[BALANCED])
    made[MACRO_F1] = metrics.macro_f1(group.label, outcome.ranks.predicted[group.where].astype(np.int64))
    return made


def chance(metric: str, plan: Plan) -> float:
    """Return what guessing gives: k of all classes, one of the test classes, nothing simple for F1."""
    if metric == MACRO_F1:
        return float("nan")
    if metric == AMONG_TEST:
        return 1 / len(plan.study.test_labels)
    places = plan.top_k if metric == balanced_top_k(plan) else 1
    return min(1.0, places / len(plan.study.classes))
