"""The four tables of an evaluation: predictions, accuracy by class, metrics with intervals, paired comparisons.

Which pictures a metric is measured on is a domain and its `cells`:
    withheld   test classes in the test domain: the question
    tested     test classes in another domain: what the same classes are worth where nothing was withheld
    seen       the other classes of the domain
    all        both

Shapes: N pictures, M runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.evaluate import metrics
from domix.evaluate.bootstrap import bootstrap_jointly
from domix.evaluate.embeddings import Embeddings
from domix.evaluate.statistics import NONE, Interval, holm, percentile_interval, sign_flip_test
from domix.evaluate.zeroshot import rank_true
from domix.runtime.errors import DataError
from domix.runtime.seeds import derive

Ints = NDArray[np.int64]
BASELINES = ("natural-only", "leave-out-domain", "cg-low", "cg-high-all")
AMONG_TEST = "balanced_top1_among_test"
PAIRED_KEYS = ["seed", "domain", "cells", "metric", "mixture", "baseline"]
PAIRED_COLUMNS = [*PAIRED_KEYS, "difference", "low", "high", "p_value", "p_holm", "n"]


@dataclass(frozen=True)
class Plan:
    """What an evaluation measures, and how."""

    test_domain: str
    domains: Sequence[str]
    classes: Sequence[str]  # in label order
    test_classes: Sequence[str]
    top_k: int
    resamples: int
    confidence: float
    seed: int

    @property
    def test_labels(self) -> Ints:
        """Labels of the test classes, rising."""
        return np.flatnonzero(np.isin(np.asarray(self.classes, dtype=object), list(self.test_classes)))


@dataclass(frozen=True)
class Outcome:
    """What one run said of the test pictures."""

    mixture: str
    standard_name: str  # the mixture's, whatever it was called
    seed: int
    rows: pd.DataFrame  # row, domain, class, label
    predicted: Ints  # [N] label
    rank: Ints  # [N] of the true class among all
    rank_among_test: Ints  # [N] among the test classes; 0 for pictures of others


@dataclass(frozen=True)
class Group:
    """Pictures that are measured together."""

    domain: str
    cells: str
    where: Ints  # [n] positions among the N pictures
    label: Ints  # [n]

    @property
    def classes(self) -> int:
        """How many classes have pictures."""
        return len(np.unique(self.label))

    @property
    def of_test_classes(self) -> bool:
        """Whether all pictures are of test classes."""
        return self.cells in ("withheld", "tested")


def classify(embeddings: Embeddings, plan: Plan, *, mixture: str, standard_name: str, seed: int) -> Outcome:
    """Classify the pictures of one run.

    Raises:
        DataError: the embeddings are of other classes or domains than the plan.
    """
    if embeddings.classes != list(plan.classes) or not set(embeddings.rows["domain"]) <= set(plan.domains):
        raise DataError(
            f"{embeddings.folder} has other classes or domains than artifacts/mixtures/summary.json: run dvc repro"
        )
    label = embeddings.rows["label"].to_numpy(dtype=np.int64)
    predicted, rank = rank_true(embeddings.image, embeddings.text, label)
    among = np.zeros(len(label), dtype=np.int64)
    tested = np.isin(label, plan.test_labels)
    _, among[tested] = rank_true(
        embeddings.image[tested],
        embeddings.text[plan.test_labels],
        np.searchsorted(plan.test_labels, label[tested]),
    )
    rows = embeddings.rows[["row", "domain", "class", "label"]]
    return Outcome(mixture, standard_name, seed, rows, predicted, rank, among)


def check_same_pictures(outcomes: Sequence[Outcome]) -> None:
    """Check that all runs were tested on the same pictures.

    Raises:
        DataError: they were not.
    """
    for outcome in outcomes[1:]:
        if not outcome.rows.equals(outcomes[0].rows):
            raise DataError(
                f"runs {_run(outcomes[0])} and {_run(outcome)} were tested on different pictures: run dvc repro"
            )


def groups(rows: pd.DataFrame, plan: Plan) -> Iterator[Group]:
    """Yield every domain's groups of pictures; those without pictures are left out."""
    label, tested = rows["label"].to_numpy(dtype=np.int64), np.isin(rows["label"], plan.test_labels)
    for domain in plan.domains:
        here = (rows["domain"] == domain).to_numpy()
        special = "withheld" if domain == plan.test_domain else "tested"
        for cells, chosen in ((special, here & tested), ("seen", here & ~tested), ("all", here)):
            where = np.flatnonzero(chosen)
            if len(where):
                yield Group(domain, cells, where, label[where])


def prediction_table(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """Return `mixture, seed, row, domain, class, predicted, rank`: one row a run and picture."""
    names = np.asarray(plan.classes, dtype=object)
    parts = [
        _keys(outcome)
        | {name: outcome.rows[name].to_numpy() for name in ("row", "domain", "class")}
        | {"predicted": names[outcome.predicted], "rank": outcome.rank}
        for outcome in outcomes
    ]
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def class_table(outcomes: Sequence[Outcome], plan: Plan) -> pd.DataFrame:
    """Return `mixture, seed, domain, class, withheld, n, correct, accuracy`: one row a run and cell with pictures."""
    names = np.asarray(plan.classes, dtype=object)
    parts = []
    for outcome in outcomes:
        for group in groups(outcome.rows, plan):
            if group.cells != "all":
                continue
            right = outcome.rank[group.where] == 1
            pictures, correct = metrics.per_class(group.label, right, len(names))
            labels = np.flatnonzero(pictures)
            withheld = np.isin(labels, plan.test_labels) & (group.domain == plan.test_domain)
            columns = {"class": names[labels], "withheld": withheld, "n": pictures[labels], "correct": correct[labels]}
            part = pd.DataFrame(_keys(outcome) | {"domain": group.domain} | columns)
            parts.append(part.assign(accuracy=part["correct"] / part["n"]))
    return pd.concat(parts, ignore_index=True)


def metric_tables(outcomes: Sequence[Outcome], plan: Plan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure all runs on all groups of pictures, with one set of resamples a group.

    Returns:
        Metrics: `mixture, seed, domain, cells, metric, estimate, low, high, n, n_classes, chance, method`; low,
        high and chance are NaN and the method "none" for macro_f1, whose chance depends on the classes' sizes.
        Paired: `seed, domain, cells, metric, mixture, baseline, difference, low, high, p_value, p_holm, n` on the
        withheld cells: every mixture less each of the BASELINES among them; p_holm is corrected over the mixtures
        compared with one baseline by one metric and seed.
    """
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for group in groups(outcomes[0].rows, plan):
        measured = _Measured(group, outcomes, plan)
        rows += measured.metrics()
        if group.cells == "withheld":
            pairs += measured.pairs()
    paired = pd.DataFrame(pairs, columns=PAIRED_COLUMNS)
    families = paired.groupby(["seed", "domain", "cells", "metric", "baseline"], sort=False)["p_value"]
    paired["p_holm"] = families.transform(lambda p: holm(p.to_numpy())) if len(paired) else paired["p_value"]
    frame = pd.DataFrame(rows)
    order = {_run(outcome): position for position, outcome in enumerate(outcomes)}
    runs = [order[f"{m} seed {s}"] for m, s in zip(frame["mixture"], frame["seed"], strict=True)]
    return frame.iloc[np.argsort(runs, kind="stable")].reset_index(drop=True), paired


class _Measured:
    """All runs on one group of pictures: each measure's right answers [n, M], and its resamples."""

    def __init__(self, group: Group, outcomes: Sequence[Outcome], plan: Plan) -> None:
        self.group, self.outcomes, self.plan = group, outcomes, plan
        rank = np.stack([outcome.rank[group.where] for outcome in outcomes], axis=1)
        self.right = {"balanced_top1": rank == 1}
        if plan.top_k > 1:
            self.right[f"balanced_top{plan.top_k}"] = rank <= plan.top_k
        if group.of_test_classes:
            among = np.stack([outcome.rank_among_test[group.where] for outcome in outcomes], axis=1)
            self.right[AMONG_TEST] = among == 1
        self.seed = derive(plan.seed, group.domain, group.cells)
        columns = np.concatenate(list(self.right.values()), axis=1)
        resamples = bootstrap_jointly(group.label, columns, resamples=plan.resamples, seed=self.seed)
        split = np.split(resamples.balanced, len(self.right), axis=1)
        self.balanced = dict(zip(self.right, split, strict=True))  # metric -> [B, M]
        self.pooled = resamples.pooled[:, : len(outcomes)]  # [B, M] of top-1

    def metrics(self) -> list[dict[str, Any]]:
        """Return the rows of the metrics table."""
        rows = []
        for run, outcome in enumerate(self.outcomes):
            for metric, right in self.right.items():
                estimate = metrics.balanced_accuracy(self.group.label, right[:, run])
                rows.append(self._row(outcome, metric, self._interval(estimate, self.balanced[metric][:, run])))
            top1 = metrics.accuracy(self.right["balanced_top1"][:, run])
            rows.append(self._row(outcome, "top1", self._interval(top1, self.pooled[:, run])))
            f1 = metrics.macro_f1(self.group.label, outcome.predicted[self.group.where])
            rows.append(self._row(outcome, "macro_f1", Interval(f1, np.nan, np.nan, NONE)))
        return rows

    def pairs(self) -> list[dict[str, Any]]:
        """Return the rows of the paired table, p_holm still empty."""
        rows = []
        for base, baseline in enumerate(self.outcomes):
            if baseline.standard_name not in BASELINES:
                continue
            for run, outcome in enumerate(self.outcomes):
                if run != base and outcome.seed == baseline.seed:
                    rows += [self._pair(metric, run, base) for metric in self.right]
        return rows

    def _pair(self, metric: str, run: int, base: int) -> dict[str, Any]:
        right, resampled = self.right[metric], self.balanced[metric]
        estimates = [metrics.balanced_accuracy(self.group.label, right[:, i]) for i in (run, base)]
        interval = self._interval(estimates[0] - estimates[1], resampled[:, run] - resampled[:, base], least=-1.0)
        p_value = sign_flip_test(
            self.group.label,
            right[:, run].astype(float) - right[:, base],
            resamples=self.plan.resamples,
            seed=self.seed,
        )
        return {
            "seed": self.outcomes[run].seed,
            "domain": self.group.domain,
            "cells": self.group.cells,
            "metric": metric,
            "mixture": self.outcomes[run].mixture,
            "baseline": self.outcomes[base].mixture,
            "difference": interval.estimate,
            "low": interval.low,
            "high": interval.high,
            "p_value": p_value,
            "p_holm": np.nan,
            "n": len(self.group.where),
        }

    def _interval(self, estimate: float, resampled: NDArray[np.float64], least: float = 0.0) -> Interval:
        return percentile_interval(
            estimate, resampled, confidence=self.plan.confidence, classes=self.group.classes, least=least
        )

    def _row(self, outcome: Outcome, metric: str, interval: Interval) -> dict[str, Any]:
        place = {"domain": self.group.domain, "cells": self.group.cells, "metric": metric}
        result = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
        size = {"n": len(self.group.where), "n_classes": self.group.classes}
        return _keys(outcome) | place | result | size | {"chance": self._chance(metric), "method": interval.method}

    def _chance(self, metric: str) -> float:
        """Return what guessing gives: k of all classes, one of the test classes, nothing simple for F1."""
        if metric == "macro_f1":
            return float("nan")
        if metric == AMONG_TEST:
            return 1 / len(self.plan.test_labels)
        places = self.plan.top_k if metric == f"balanced_top{self.plan.top_k}" else 1
        return min(1.0, places / len(self.plan.classes))


def _keys(outcome: Outcome) -> dict[str, Any]:
    return {"mixture": outcome.mixture, "seed": outcome.seed}


def _run(outcome: Outcome) -> str:
    return f"{outcome.mixture} seed {outcome.seed}"
