"""Whether what a model shares between domains predicts what it reads: the paper's explanation, put to a test.

Kempf et al. (2025, section 6) explain generalisation by features and circuits that the test domain shares with others,
from examples. Two questions, one method (`domix.analyses.association`):

* among the held-out classes of a model: does it read those better in which it shares more?
* among the mixtures of a test domain: do those models read more that share more? Scores of a model as a whole (CKA, or
  the mean of its held-out classes) can be asked this alone.

Either also with accuracy in the other domains held fixed, for what is easy everywhere is no evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from domix.analyses.association import LEAST, MODEL, Association, associate
from domix.evaluate.statistics import holm
from domix.report.load.study import Results
from domix.runs import CLIP
from domix.runtime.tables import Column, TableSchema

UNIT = [*MODEL, "class"]
WAYS = ("plain", "partial")  # as it is, and with the accuracy in other domains held fixed
VALUES = ("estimate", "low", "high", "p_value", "models", "units")
CLASSES, MIXTURES = "classes", "mixtures"  # among which a score is correlated with accuracy
SCORES = TableSchema(
    "scores",
    (
        Column("kind", "str", "group of models: clip or supervised"),
        Column("mixture", "str", "training mixture"),
        Column("seed", "int64", "its seed"),
        Column("score", "str", "what is shared between the test domain and the others: features, nodes, ..."),
        Column("class", "str", "held-out class; empty: the model as a whole"),
        Column("value", "float64", "how much is shared"),
        Column("accuracy", "float64", "on the class's images of the test domain; of a model the mean over classes"),
        Column("seen", "float64", "the same in the other domains, mean over them"),
    ),
    "a score of a held-out class, or of a model, beside the accuracy that it may predict",
    path="artifacts/report/scores.parquet",
    written_by="report",
)


def class_accuracies(study: Results, kind: str = CLIP) -> pd.DataFrame:
    """Return what each model reads of each held-out class: `accuracy` in the test domain, `seen` the mean elsewhere.

    Of CLIP models, or of the others of a `kind`.
    """
    others = study.further.per_class
    rows = study.per_class if kind == CLIP else others[others["kind"] == kind]
    mine = rows[rows["class"].isin(study.test_classes)]
    held_out = mine[mine["domain"] == study.test_domain].set_index(UNIT)["accuracy"]
    elsewhere = mine[mine["domain"] != study.test_domain].groupby(UNIT)["accuracy"].mean()
    return pd.DataFrame({"accuracy": held_out, "seen": elsewhere}).dropna(subset=["accuracy"]).reset_index()


def scored(
    study: Results,
    of_classes: Mapping[str, pd.DataFrame],
    of_models: Mapping[str, pd.DataFrame],
    of_others: Mapping[str, Mapping[str, pd.DataFrame]] = MappingProxyType({}),
) -> pd.DataFrame:
    """Put what analyses say of held-out classes and of models, by name, beside accuracy: the table SCORES.

    Args:
        of_classes: frames like domix.analyses.contract.SCORE; their means over held-out classes are scores of models.
        of_models: frames like domix.analyses.contract.MODEL_SCORE, of CLIP models.
        of_others: the same of other groups of models, by kind, each held against the accuracy of its own.
    """
    accuracies = class_accuracies(study)
    models = _over_classes(accuracies)
    parts = []
    for name, frame in of_classes.items():
        mine = accuracies.merge(frame, on=UNIT).dropna(subset=["score"])
        means = mine.groupby(MODEL, as_index=False, sort=False)["score"].mean()
        parts += [_named(mine, name), _named(models.merge(means, on=MODEL), name)]
    parts += [_named(models.merge(frame, on=MODEL), name) for name, frame in of_models.items()]
    for kind, frames in of_others.items():
        models = _over_classes(class_accuracies(study, kind))
        parts += [_named(models.merge(frame, on=MODEL), name, kind) for name, frame in frames.items()]
    return pd.concat([part for part in parts if len(part)] or [SCORES.empty()], ignore_index=True)


def _over_classes(accuracies: pd.DataFrame) -> pd.DataFrame:
    means = accuracies.groupby(MODEL, as_index=False, sort=False)[["accuracy", "seen"]].mean()
    return means.assign(**{"class": ""})


def relations(units: pd.DataFrame, *, confidence: float, resamples: int, seed: int) -> pd.DataFrame:
    """Return how each score is correlated with accuracy, each group of models by itself, over all test domains.

    Args:
        units: rows of SCORES, led by `test_domain`; scores of too few classes, or mixtures, are left out.
        confidence: of the intervals.
        resamples: of intervals and tests.
        seed: of both.

    Returns:
        Columns kind, score, among, way, left_out, estimate, low, high, p_value, p_holm (over a group's scores), models,
        units.
        `left_out` names a test domain without which the estimate is taken; such rows have nothing else.
    """
    rows: list[tuple[object, ...]] = []
    marked = units.assign(among=np.where(units["class"] == "", MIXTURES, CLASSES))
    keys = ["kind", "score", "among"]
    for key in marked[keys].drop_duplicates().itertuples(index=False, name=None):
        mine, among = marked[(marked[keys] == list(key)).all(axis=1)], key[2]
        if among == MIXTURES:  # they are what classes are elsewhere: the units that are drawn and shuffled together
            mine = mine.assign(**{"class": mine["mixture"], "mixture": ""})
        for way in WAYS:
            known = mine if way == "plain" else mine.dropna(subset=["seen"])
            if known.groupby("test_domain")["class"].nunique().max() < LEAST or known.empty:
                continue
            control = "seen" if way == "partial" else None
            found = associate(
                known,
                score="value",
                accuracy="accuracy",
                control=control,
                confidence=confidence,
                resamples=resamples,
                seed=seed,
            )
            rows += _rows((*key, way), found)
    table = pd.DataFrame(rows, columns=[*keys, "way", "left_out", *VALUES])
    tested = table[table["left_out"] == ""].groupby(["kind", "among", "way"])
    corrected = [pd.Series(holm(mine["p_value"].to_numpy()), mine.index) for _, mine in tested]
    table.insert(len(table.columns) - 2, "p_holm", pd.concat(corrected) if corrected else pd.Series(dtype="float64"))
    return table


def _rows(key: tuple[object, ...], found: Association) -> list[tuple[object, ...]]:
    whole = (*key, "", found.estimate, found.low, found.high, found.p, found.models, found.classes)
    nothing = [float("nan")] * 3
    return [whole] + [(*key, domain, value, *nothing, 0, 0) for domain, value in found.without.items()]


def _named(frame: pd.DataFrame, name: str, kind: str = CLIP) -> pd.DataFrame:
    return frame.rename(columns={"score": "value"}).assign(kind=kind, score=name)[SCORES.names]
