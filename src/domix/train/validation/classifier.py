"""Measurements on test images while a classifier trains: curves to watch, no part of the results.

On images of cells that the mixture shows, and on images of the test cells, on every one of them: cross-entropy
over all outputs, and accuracy among the classes of the multi-domain source, as classifiers are evaluated; on the test
cells also among the test classes alone.

The model is left as it was: weights, running statistics, random numbers, gradients.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from domix.evaluate.metrics import accuracy, balanced_accuracy
from domix.train.machine import Precision, choose
from domix.train.session import Row, Validator
from domix.train.validation.measuring import apply, evaluating, lowered
from domix.train.validation.subsets import Subset, choose_held_out, choose_seen, class_names, prepare

if TYPE_CHECKING:
    import pandas as pd

    from domix.data.loading.samples import Opened
    from domix.train.job import Job
    from domix.train.settings import Validation as Settings


def make_validator(opened: Opened, job: Job, settings: Settings, *, first: int) -> Validator | None:
    """Return what measures a training on `opened`, where the multi-domain source's first class has the output `first`.

    None where `settings` ask for none, or the sources have no test images. `opened` was read with subsets.COLUMNS.
    """
    if settings.every is None:
        return None
    seen = _prepare(choose_seen(opened, settings.images, job.seed), opened, job.task.size)
    held_out = _prepare(choose_held_out(opened, settings.images, job.seed), opened, job.task.size)
    if seen is None and held_out is None:
        return None
    classes = class_names(opened)
    validation = SupervisedValidation(
        seen=seen,
        held_out=held_out,
        own=range(first, first + len(classes)),
        test_labels=np.flatnonzero(np.isin(classes, opened.mixture.parameters.get("test_classes", []))),
        precision=choose(job.trainer).precision,
        channels_last=job.trainer.channels_last,
    )
    return Validator(settings.every, validation.measure)


def _prepare(rows: pd.DataFrame, opened: Opened, size: int) -> Subset | None:
    """Decode images, but those of other sources, whose labels are not the outputs'."""
    if rows.empty or (rows["label"] < 0).all():
        return None
    return prepare(rows, opened.readers, size=size, threads=os.cpu_count() or 1)


@dataclass(frozen=True, kw_only=True)
class SupervisedValidation:
    """What a classifier is measured on, made ready once."""

    seen: Subset | None
    held_out: Subset | None
    own: range  # the outputs of the multi-domain source's classes, in label order
    test_labels: NDArray[np.int64]  # rising labels of the test classes
    precision: Precision = "32-true"
    channels_last: bool = False

    def measure(self, model: nn.Module) -> Row:
        """Return the measurements; one that is not finite is left out."""
        row: Row = {}
        with evaluating(model), torch.no_grad(), lowered(model, self.precision):
            for name, subset in (("seen", self.seen), ("held_out", self.held_out)):
                if subset is not None:
                    logits = apply(model, subset.images, model, channels_last=self.channels_last).cpu()
                    row[f"n_{name}"] = len(logits)
                    found = self._measure(logits, subset.labels, among_test=name == "held_out")
                    row |= {f"{name}_{measure}": value for measure, value in found.items()}
        return {name: value for name, value in row.items() if math.isfinite(value)}

    def _measure(self, logits: Tensor, label: NDArray[np.int64], *, among_test: bool) -> dict[str, float]:
        own = logits[:, list(self.own)]
        right = own.argmax(dim=1).numpy() == label
        found = {
            "loss": F.cross_entropy(logits, torch.from_numpy(label + self.own.start)).item(),
            "top1": accuracy(right),
            "balanced_top1": balanced_accuracy(label, right),
        }
        if among_test:
            right = self.test_labels[own[:, self.test_labels].argmax(dim=1).numpy()] == label
            found["balanced_top1_among_test"] = balanced_accuracy(label, right)
        return found
