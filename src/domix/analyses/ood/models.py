"""Whether accuracy on known images tells how well foreign ones are told (Adaloglou et al. 2024, figure 1).

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from domix.analyses.ood.images import Floats, StudyImages
from domix.evaluate.metrics import balanced_accuracy
from domix.ood.correlation import LEAST, correlate
from domix.ood.metrics import auroc
from domix.ood.neighbours import weighted_knn_accuracy
from domix.study import Run, Study

NEIGHBOURS = 20
KEYS = ["score", "group", "set"]
ACCURACIES = ("zeroshot", "knn")


def model_rows(
    run: Run, checkpoint: int | None, images: StudyImages, study: Study, scores: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """Return the rows of the table models of one run or checkpoint."""
    known = images.known(study)
    features, labels = images.features[known], images.rows["label"].to_numpy()[known]
    found = images.scores(known).argmax(axis=1)
    neighbours = min(NEIGHBOURS, len(labels) - 1)
    head = {
        "mixture": run.mixture,
        "seed": run.seed,
        "checkpoint": -1 if checkpoint is None else checkpoint,
        "zeroshot": balanced_accuracy(labels, found == labels),
        "knn": weighted_knn_accuracy(features, labels, features, labels, k=neighbours, exclude_self=True).top1,
    }
    return [
        head | {"score": name, "group": group, "set": source, "auroc": auroc(values[known], values[at])}
        for name, values in scores.items()
        for (group, source), at in images.groups(study).items()
    ]


def correlation_rows(models: pd.DataFrame, confidence: float, *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Return the rows of the table correlations, of at least three models whose accuracies differ."""
    rows = []
    for _, mine in models.groupby(KEYS, sort=False):
        for accuracy in ACCURACIES:
            if len(mine) < LEAST or np.ptp(mine[accuracy]) == 0:
                continue
            found = correlate(mine[accuracy], mine["auroc"], confidence=confidence, resamples=resamples, seed=seed)
            found = found.statistics
            low, high = found["r2"].intervals["models"]
            rows.append(
                {"accuracy": accuracy, **mine.iloc[0][KEYS], "r2": found["r2"].estimate}
                | {"low": low, "high": high, "slope": found["slope"].estimate, "n": len(mine)}
            )
    return rows
