"""A run's results as the reference study's evaluation writes them: results.json, results_topk.json, arrays of labels.

Names are the reference's: `ood` are the test classes (C2), `id` all others (C1), in the test domain and the natural
one; `unweighted` is the mean over classes that have images, the headline metric. Every leaf is a list over
checkpoints, null where a number is not known.

Shapes: E checkpoints, N images of the two domains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.data.classes.names import class_text
from domix.embed.embeddings import checkpoints_of, load_scored, sets_of
from domix.evaluate import metrics
from domix.evaluate.ranking import rank_blocks
from domix.evaluate.robustness import IMAGENET, Judged, classify_set
from domix.evaluate.trajectories import final_epoch
from domix.runtime.errors import DataError, passing
from domix.study import Study

Ints = NDArray[np.integer[Any]]
Series = dict[str, list[float | int | None]]
VAL = "imagenet-val"
DOMAINNET = "domainnet-val"


@dataclass(frozen=True)
class Answers:
    """What the checkpoints of one run said of the images of two domains, in the order of the index."""

    steps: Sequence[int]  # E epochs
    rows: pd.DataFrame  # N rows: domain, label
    predicted: Ints  # [E, N]
    rank: Ints  # [E, N] of the true class, 1 = right
    imagenet: Sequence[Judged] = ()  # what each said of ImageNet's validation images; empty: they are not there


def read_answers(folder: Path, kind: str, study: Study) -> Answers:
    """Read what all checkpoints of a run, the last weights at the end, say of the images of the two domains.

    Args:
        folder: artifacts/embeddings/<kind>/<run>.
        kind: clip or supervised.
        study: whose run it is.

    Raises:
        DataError: embeddings are missing, damaged, or of another study.
    """
    final, kept = load_scored(folder, kind), checkpoints_of(folder)
    if final.classes != list(study.classes):
        raise DataError(f"{folder} has other classes than the study", remake=folder)
    last = final_epoch(final.meta, kept)
    steps = [*(epoch for epoch in kept if epoch != last), last]
    where = final.rows["domain"].isin([study.test_domain, study.natural_domain]).to_numpy()
    label, said = final.rows["label"].to_numpy(dtype=np.int64), []
    for step in steps:
        scored = final if step == last else load_scored(folder, kind, checkpoint=step)
        ranks = rank_blocks(scored.blocks(), label, np.empty(0, dtype=np.int64))
        said.append((ranks.predicted[where], ranks.rank[where]))
    predicted, rank = (np.stack(part) for part in zip(*said, strict=True))
    imagenet = [_imagenet(folder, kind, None if step == last else step) for step in steps]
    rows = final.rows[where][["domain", "label"]].reset_index(drop=True)
    return Answers(steps, rows, predicted, rank, [judged for judged in imagenet if judged is not None])


def _imagenet(folder: Path, kind: str, checkpoint: int | None) -> Judged | None:
    """Return what a checkpoint says of ImageNet's validation images; None where they were not embedded."""
    if IMAGENET not in sets_of(folder):
        return None
    scored = load_scored(folder, kind, checkpoint=checkpoint, source=IMAGENET)
    with passing(blocks=scored.folder):
        return classify_set(scored.blocks(), scored.rows["label"].to_numpy(dtype=np.int64))


def results(answers: Answers, study: Study, *, imagenet: bool = True) -> dict[str, Any]:
    """Return the tree of results.json; without the part `imagenet-val`, as of classifiers, unless `imagenet`."""
    tree = _head(answers, study)
    if imagenet:
        tree[VAL] = {"accuracy": {"total": _series(answers, lambda val: metrics.accuracy(val.right()))}}
    accuracy, samples = _accuracies(answers, study, answers.rank == 1)
    return tree | {DOMAINNET: {"accuracy": accuracy, "num-samples": samples}}


def results_topk(answers: Answers, study: Study, k: int) -> dict[str, Any]:
    """Return the tree of results_topk.json: top-k accuracy, and macro F1 over the classes that occur."""
    accuracy, samples = _accuracies(answers, study, answers.rank <= k)
    f1: Series = {}
    for domain, group, where in _groups(answers.rows, study):
        label = answers.rows["label"].to_numpy()[where]
        f1[f"{domain}-lso-{group}"] = [_known(metrics.macro_f1(label, said[where])) for said in answers.predicted]
    val = {
        f"top-{k}-accuracy": {"total": _series(answers, lambda val: metrics.accuracy(val.right(k)))},
        "f1-score": {"total": _series(answers, lambda val: metrics.macro_f1(val.label, val.predicted))},
    }
    domainnet = {f"top-{k}-accuracy": accuracy, "f1-score": f1, "num-samples": samples}
    return _head(answers, study) | {VAL: val, DOMAINNET: domainnet}


def arrays(answers: Answers, study: Study) -> dict[str, Ints]:
    """Return `domain_labels` [N], `domain_pred` [E, N] and `domain_ids` [N], the domain's place among the study's.

    Also `val_labels` and `val_pred` [E, ...], where ImageNet's images were embedded.
    """
    order = {domain: place for place, domain in enumerate(study.domains)}
    kept = {
        "domain_labels": answers.rows["label"].to_numpy(),
        "domain_pred": answers.predicted,
        "domain_ids": answers.rows["domain"].map(order).to_numpy(),
    }
    if answers.imagenet:
        kept["val_labels"] = answers.imagenet[0].label
        kept["val_pred"] = np.stack([val.predicted for val in answers.imagenet])
    return {name: array.astype(np.int64) for name, array in kept.items()}


def _head(answers: Answers, study: Study) -> dict[str, Any]:
    classes = [class_text(name) for name in study.test_classes]
    return {"steps": list(answers.steps), "classes": classes, "domain": study.test_domain}


def _series(answers: Answers, measure: Callable[[Judged], float]) -> list[float | None]:
    """Measure each checkpoint on ImageNet's images; without them, nothing is known of any."""
    return [measure(val) for val in answers.imagenet] if answers.imagenet else [None] * len(answers.steps)


def _accuracies(answers: Answers, study: Study, right: NDArray[np.bool_]) -> tuple[Series, Series]:
    """Return accuracies and numbers of images by the reference's keys; `right` [E, N]."""
    label = answers.rows["label"].to_numpy(dtype=np.int64)
    accuracy: Series = {}
    samples: Series = {}

    def pooled(where: Ints) -> list[float | int | None]:
        return [_known(metrics.accuracy(row[where])) for row in right]

    for domain, group, where in _groups(answers.rows, study):
        balanced = [_known(metrics.balanced_accuracy(label[where], row[where])) for row in right]
        accuracy[f"{domain}-lso-{group}"] = pooled(where)
        accuracy[f"{domain}-lso-unweighted-{group}"] = list(balanced)
        samples[f"{domain}-lso-{group}"] = [len(where)] * len(right)
        for name in study.test_classes if group == "ood" else ():
            own = where[label[where] == list(study.classes).index(name)]
            accuracy[f"{domain}-{class_text(name)}-ood"] = pooled(own)
            samples[f"{domain}-{class_text(name)}-ood"] = [len(own)] * len(right)
    return accuracy, samples


def _groups(rows: pd.DataFrame, study: Study) -> list[tuple[str, str, Ints]]:
    """List domain, ood or id, and the images' places among the N."""
    tested = np.isin(np.asarray(study.classes, dtype=object)[rows["label"].to_numpy()], list(study.test_classes))
    return [
        (domain, group, np.flatnonzero((rows["domain"] == domain).to_numpy() & (tested == (group == "ood"))))
        for domain in (study.test_domain, study.natural_domain)
        for group in ("ood", "id")
    ]


def _known(value: float) -> float | None:
    """Return a number as JSON has it: none where there are no images."""
    return None if np.isnan(value) else value
