"""Results of scores on sets: a table of all metrics, pooled and by class, its means, and the layouts of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.ood.blocks import Array
from domix.ood.metrics import aupr, auroc, fpr95
from domix.runtime.errors import DataError, ParameterError

NEAR, FAR = "near", "far"
MEASURES = ("auroc", "aupr_id", "aupr_ood", "fpr95_plp", "fpr95_mcm", "fpr95_openood")
POOLED, BY_CLASS = "pooled", "class mean"
# What the code of Adaloglou et al. (2024) calls scores, and which of them it lists by temperature.
PLP_NAMES = {
    "msp": "msp",
    "energy": "free_energy",
    "l1": "l1_norm",
    "perplexity": "perplexity",
    "knn": "knn",
    "mahalanobis": "Mahalanobis",
    "relative_mahalanobis": "Mahalanobis_relative",
}
PLP_BY_TEMPERATURE = ("msp", "energy", "l1", "perplexity")


def measure(id_scores: Array, ood_scores: Array) -> dict[str, float]:
    """Return all MEASURES of one score on one OOD set.

    Raises:
        DataError: a set is empty, or a score is not finite.
    """
    return {
        "auroc": auroc(id_scores, ood_scores),
        "aupr_id": aupr(id_scores, ood_scores, positive="id"),
        "aupr_ood": aupr(id_scores, ood_scores, positive="ood"),
        **{f"fpr95_{name}": fpr95(id_scores, ood_scores, convention=name) for name in ("plp", "mcm", "openood")},
    }


def measure_classes(id_scores: Array, ood_scores: Array, classes: NDArray[Any]) -> pd.DataFrame:
    """Measure each class of an OOD set against all ID images, as NINCO does (Bitterwolf et al. 2023).

    Args:
        id_scores: [P].
        ood_scores: [N].
        classes: of the OOD images [N].

    Returns:
        A row a class, in order: class, images, MEASURES.

    Raises:
        DataError: there is not a class an image, a set is empty, or a score is not finite.
    """
    names = np.asarray(classes)
    if names.shape != np.shape(ood_scores):
        raise DataError(f"there are {len(ood_scores)} OOD images and {len(names)} classes of them: give one an image")
    rows = []
    for name in np.unique(names):
        some = np.asarray(ood_scores)[names == name]
        rows.append({"class": str(name), "images": len(some), **measure(id_scores, some)})
    return pd.DataFrame(rows)


def detection_table(
    id_scores: Mapping[str, Array],
    ood_scores: Mapping[str, Mapping[str, Array]],
    *,
    groups: Mapping[str, str],
    classes: Mapping[str, NDArray[Any]] | None = None,
) -> pd.DataFrame:
    """Measure every score on every OOD set.

    Args:
        id_scores: score -> [P].
        ood_scores: OOD set -> score -> [N].
        groups: OOD set -> `near` or `far`.
        classes: OOD set -> classes of its images [N], where they are known.

    Returns:
        A row a score, set and protocol: score, set, group, protocol (`pooled` over images; `class mean`, of sets with
        classes), images, MEASURES.

    Raises:
        DataError: a set lacks a score or a group, is empty, or a score is not finite.
    """
    rows = []
    for name, some in ood_scores.items():
        if groups.get(name) not in (NEAR, FAR):
            raise DataError(f"the OOD set {name} is neither near nor far: say which")
        for score, inside in id_scores.items():
            if score not in some:
                raise DataError(f"the OOD set {name} lacks the score {score}, which the ID images have")
            about = {"score": score, "set": name, "group": groups[name]}
            found = measure(inside, some[score])
            rows.append({**about, "protocol": POOLED, "images": len(some[score]), **found})
            if classes and name in classes:
                means = measure_classes(inside, some[score], classes[name])[list(MEASURES)].mean()
                rows.append({**about, "protocol": BY_CLASS, "images": len(some[score]), **means.to_dict()})
    return pd.DataFrame(rows)


def group_means(table: pd.DataFrame) -> pd.DataFrame:
    """Return the unweighted means of a table's measures over the sets of each group, a row a score and group.

    Of sets with classes `class mean` counts for the protocol of that name, `pooled` for the sets that have none.
    """
    rows = []
    for protocol in dict.fromkeys(table["protocol"]):
        own = table[table["protocol"] == protocol]
        others = table[(table["protocol"] == POOLED) & ~table["set"].isin(own["set"])]
        both = pd.concat([own, others])
        means = both.groupby(["score", "group"], sort=False)[list(MEASURES)].mean().reset_index()
        sets = both.groupby(["score", "group"], sort=False)["set"].size().to_numpy()
        means.insert(2, "protocol", protocol)
        means.insert(3, "sets", sets)
        rows.append(means)
    return pd.concat(rows, ignore_index=True)


def openood_table(
    id_scores: Array, ood_scores: Mapping[str, Array], *, groups: Mapping[str, str], accuracy: float
) -> pd.DataFrame:
    """Return one score's results in OpenOOD v1.5's layout (ood.csv), in percent, rounded to two decimals.

    Its convention of FPR95 counts, AUPR is taken by trapezoids, means are over sets.

    Args:
        id_scores: [P].
        ood_scores: OOD set -> [N].
        groups: OOD set -> `near` or `far`.
        accuracy: of the ID images, a share.

    Returns:
        dataset, FPR@95, AUROC, AUPR_IN, AUPR_OUT, ACC: the near sets, their mean `nearood`, the far ones and `farood`.

    Raises:
        DataError: a set has no group, is empty, or a score is not finite.
    """
    rows: list[dict[str, Any]] = []
    for group in (NEAR, FAR):
        names = [name for name in ood_scores if groups.get(name) == group]
        found = [
            {
                "FPR@95": fpr95(id_scores, ood_scores[name], convention="openood"),
                "AUROC": auroc(id_scores, ood_scores[name]),
                "AUPR_IN": aupr(id_scores, ood_scores[name], positive="id", rule="trapezoid"),
                "AUPR_OUT": aupr(id_scores, ood_scores[name], positive="ood", rule="trapezoid"),
                "ACC": accuracy,
            }
            for name in names
        ]
        rows += [{"dataset": name, **row} for name, row in zip(names, found, strict=True)]
        if found:
            rows.append({"dataset": f"{group}ood", **{key: np.mean([row[key] for row in found]) for key in found[0]}})
    strange = [name for name in ood_scores if groups.get(name) not in (NEAR, FAR)]
    if strange:
        raise DataError(f"the OOD set {strange[0]} is neither near nor far: say which")
    if not rows:
        raise DataError("no OOD set is given: there is nothing to report")
    table = pd.DataFrame(rows)
    numbers = table.columns[1:]
    table[numbers] = (100 * table[numbers]).round(2)
    return table


def plp_metrics(
    id_scores: Mapping[tuple[str, float | None], Array],
    ood_scores: Mapping[str, Mapping[tuple[str, float | None], Array]],
) -> list[dict[str, Any]]:
    """Return results as the code of Adaloglou et al. (2024) writes them to ood_metrics.json, in percent.

    Args:
        id_scores: (our name of a score, its temperature or None) -> [P].
        ood_scores: OOD set -> the same -> [N].

    Returns:
        An object a set: out_dist, auroc and fpr95, each a number by the reference's name of the score, or a list of
        {temp, auroc} and {temp, fpr95} of scores that have a temperature.

    Raises:
        ParameterError: the reference has no such score, or lists it by temperature where none is given.
        DataError: a set lacks a score, is empty, or a score is not finite.
    """
    listed = []
    for name, some in ood_scores.items():
        found: dict[str, Any] = {"out_dist": name, "auroc": {}, "fpr95": {}}
        for (score, temperature), inside in id_scores.items():
            if score not in PLP_NAMES:
                raise ParameterError(f"the reference has no score {score!r}, but {', '.join(PLP_NAMES)}")
            if (temperature is None) == (score in PLP_BY_TEMPERATURE):
                raise ParameterError(f"the reference lists {', '.join(PLP_BY_TEMPERATURE)} by temperature, no others")
            if (score, temperature) not in some:
                raise DataError(f"the OOD set {name} lacks the score {score}, which the ID images have")
            outside = some[score, temperature]
            values = {
                "auroc": 100 * auroc(inside, outside),
                "fpr95": 100 * fpr95(inside, outside, convention="plp"),
            }
            for metric, value in values.items():
                if temperature is None:
                    found[metric][PLP_NAMES[score]] = value
                else:
                    found[metric].setdefault(PLP_NAMES[score], []).append({"temp": temperature, metric: value})
        listed.append(found)
    return listed


def plp_table(listed: list[dict[str, Any]]) -> pd.DataFrame:
    """Return `plp_metrics` as the reference's ood_metrics.csv: a row a set, rounded to two decimals.

    Columns are out_dist, then `auroc_<score>` or `auroc_<score>_temp=<T>`, then the same of `fpr95`.
    """
    rows = []
    for found in listed:
        row: dict[str, Any] = {"out_dist": found["out_dist"]}
        for metric in ("auroc", "fpr95"):
            for score, value in found[metric].items():
                if isinstance(value, list):
                    row |= {f"{metric}_{score}_temp={one['temp']}": round(one[metric], 2) for one in value}
                else:
                    row[f"{metric}_{score}"] = round(value, 2)
        rows.append(row)
    return pd.DataFrame(rows)
