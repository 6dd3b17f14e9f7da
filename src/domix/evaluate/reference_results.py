"""A run's results as the reference study's evaluation writes them: results.json, results_topk.json, arrays of labels.

Names are the reference's: `ood` are the test classes (C2), `id` all others (C1), in the test domain and the natural
one; `unweighted` is the mean over classes that have pictures, the headline metric. Every leaf is a list over
checkpoints, null where a number is not known.

Shapes: E checkpoints, N pictures of the two domains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.names import class_text
from domix.evaluate import metrics

Ints = NDArray[np.int64]
Series = dict[str, list[float | int | None]]
VAL = "imagenet-val"
DOMAINNET = "domainnet-val"


@dataclass(frozen=True)
class Answers:
    """What the checkpoints of one run said of the pictures of two domains, in the order of the index."""

    steps: Sequence[int]  # E epochs
    rows: pd.DataFrame  # N rows: domain, label
    predicted: Ints  # [E, N]
    rank: Ints  # [E, N] of the true class, 1 = right
    imagenet: Mapping[str, float] = field(default_factory=dict)  # of the last checkpoint: top1, top<k>, f1; if measured


@dataclass(frozen=True)
class Names:
    """The study's names."""

    test_domain: str
    natural_domain: str
    domains: Sequence[str]
    classes: Sequence[str]  # in label order
    test_classes: Sequence[str]


def results(answers: Answers, names: Names, *, imagenet: bool = True) -> dict[str, Any]:
    """Return the tree of results.json; without the part `imagenet-val`, as of classifiers, unless `imagenet`."""
    tree = _head(answers, names)
    if imagenet:
        tree[VAL] = {"accuracy": {"total": _last(answers, "top1")}}
    accuracy, samples = _accuracies(answers, names, answers.rank == 1)
    return tree | {DOMAINNET: {"accuracy": accuracy, "num-samples": samples}}


def results_topk(answers: Answers, names: Names, k: int) -> dict[str, Any]:
    """Return the tree of results_topk.json: top-k accuracy, and macro F1 over the classes that occur."""
    accuracy, samples = _accuracies(answers, names, answers.rank <= k)
    f1: Series = {}
    for domain, group, where in _groups(answers.rows, names):
        label = answers.rows["label"].to_numpy()[where]
        f1[f"{domain}-lso-{group}"] = [_known(metrics.macro_f1(label, said[where])) for said in answers.predicted]
    val = {f"top-{k}-accuracy": {"total": _last(answers, f"top{k}")}, "f1-score": {"total": _last(answers, "f1")}}
    domainnet = {f"top-{k}-accuracy": accuracy, "f1-score": f1, "num-samples": samples}
    return _head(answers, names) | {VAL: val, DOMAINNET: domainnet}


def arrays(answers: Answers, names: Names) -> dict[str, Ints]:
    """Return `domain_labels` [N], `domain_pred` [E, N] and `domain_ids` [N], the domain's place among the study's."""
    order = {domain: place for place, domain in enumerate(names.domains)}
    return {
        "domain_labels": answers.rows["label"].to_numpy(dtype=np.int64),
        "domain_pred": answers.predicted,
        "domain_ids": answers.rows["domain"].map(order).to_numpy(dtype=np.int64),
    }


def two_domains(rows: pd.DataFrame, names: Names) -> NDArray[np.bool_]:
    """Return which pictures are of the test domain or the natural one."""
    return rows["domain"].isin([names.test_domain, names.natural_domain]).to_numpy()


def _head(answers: Answers, names: Names) -> dict[str, Any]:
    classes = [class_text(name) for name in names.test_classes]
    return {"steps": list(answers.steps), "classes": classes, "domain": names.test_domain}


def _last(answers: Answers, metric: str) -> list[float | None]:
    """Return a series that knows its last value at most: other sets of pictures are embedded with the last weights."""
    return [None] * (len(answers.steps) - 1) + [answers.imagenet.get(metric)]


def _accuracies(answers: Answers, names: Names, right: NDArray[np.bool_]) -> tuple[Series, Series]:
    """Return accuracies and numbers of pictures by the reference's keys; `right` [E, N]."""
    label = answers.rows["label"].to_numpy(dtype=np.int64)
    accuracy: Series = {}
    samples: Series = {}

    def pooled(where: Ints) -> list[float | int | None]:
        return [_known(metrics.accuracy(row[where])) for row in right]

    for domain, group, where in _groups(answers.rows, names):
        balanced = [_known(metrics.balanced_accuracy(label[where], row[where])) for row in right]
        accuracy[f"{domain}-lso-{group}"] = pooled(where)
        accuracy[f"{domain}-lso-unweighted-{group}"] = list(balanced)
        samples[f"{domain}-lso-{group}"] = [len(where)] * len(right)
        for name in names.test_classes if group == "ood" else ():
            own = where[label[where] == list(names.classes).index(name)]
            accuracy[f"{domain}-{class_text(name)}-ood"] = pooled(own)
            samples[f"{domain}-{class_text(name)}-ood"] = [len(own)] * len(right)
    return accuracy, samples


def _groups(rows: pd.DataFrame, names: Names) -> list[tuple[str, str, Ints]]:
    """List domain, ood or id, and the pictures' places among the N."""
    tested = np.isin(np.asarray(names.classes, dtype=object)[rows["label"].to_numpy()], list(names.test_classes))
    return [
        (domain, group, np.flatnonzero((rows["domain"] == domain).to_numpy() & (tested == (group == "ood"))))
        for domain in (names.test_domain, names.natural_domain)
        for group in ("ood", "id")
    ]


def _known(value: float) -> float | None:
    """Return a number as JSON has it: none where there are no pictures."""
    return None if np.isnan(value) else value
