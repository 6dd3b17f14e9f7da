"""Whether what a model shares between domains predicts what it reads: the paper's explanation, put to a test.

Kempf et al. (2025, section 6) explain generalisation by features and circuits that the test domain shares with others,
from examples. Here the held-out classes are the units: if sharing carries generalisation, a model reads those
classes better in which it shares more (`domix.analyses.association`), also among classes that it reads equally well
elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from domix.analyses.association import LEAST, MODEL, Association, associate
from domix.evaluate.statistics import holm
from domix.report.load.study import Results

UNIT = [*MODEL, "class"]
WAYS = ("plain", "partial")  # as it is, and with the accuracy in other domains held fixed


def class_accuracies(study: Results) -> pd.DataFrame:
    """Return what each model reads of each held-out class: `accuracy` in the test domain, `seen` the mean elsewhere."""
    mine = study.per_class[study.per_class["class"].isin(study.test_classes)]
    held_out = mine[mine["domain"] == study.test_domain].set_index(UNIT)["accuracy"]
    elsewhere = mine[mine["domain"] != study.test_domain].groupby(UNIT)["accuracy"].mean()
    return pd.DataFrame({"accuracy": held_out, "seen": elsewhere}).dropna(subset=["accuracy"]).reset_index()


def relations(study: Results, scores: Mapping[str, pd.DataFrame], *, resamples: int, seed: int) -> pd.DataFrame:
    """Return one row a score and way: estimate, low, high, p_value, p_holm (over the scores), models, classes.

    Args:
        scores: what analyses say of classes (domix.analyses.contract.SCORE), by name; those with too few held-out
            classes are left out.
    """
    accuracies = class_accuracies(study).assign(test_domain=study.test_domain)
    rows = []
    for name, frame in scores.items():
        units = accuracies.merge(frame, on=UNIT).dropna(subset=["score"])
        for way in WAYS:
            known = units if way == "plain" else units.dropna(subset=["seen"])
            if known["class"].nunique() < LEAST:
                continue
            found = associate(
                known,
                score="score",
                accuracy="accuracy",
                control="seen" if way == "partial" else None,
                confidence=study.confidence,
                resamples=resamples,
                seed=seed,
            )
            rows.append(_row(name, way, found))
    columns = ["score", "way", "estimate", "low", "high", "p_value", "models", "classes"]
    table = pd.DataFrame(rows, columns=columns)
    corrected = [pd.Series(holm(mine["p_value"].to_numpy()), mine.index) for _, mine in table.groupby("way")]
    return table.assign(p_holm=pd.concat(corrected) if corrected else pd.Series(dtype="float64"))


def _row(name: str, way: str, found: Association) -> tuple[object, ...]:
    return (name, way, found.estimate, found.low, found.high, found.p, found.models, found.classes)
