"""Numbers beside the study's CLIP models: classifiers, public models, and all seeds of a mixture together."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd

from domix.report.load.study import Results
from domix.report.tables import summary
from domix.runs import CLIP, PUBLIC, SUPERVISED

PLACES = summary.PLACES
KIND_WORDS = {CLIP: "CLIP", SUPERVISED: "classifier", PUBLIC: "public model"}


def models(study: Results) -> list[tuple[str, str]]:
    """List the models that stand beside: (kind, mixture or name), classifiers first."""
    others = study.further.others
    return list(dict.fromkeys(zip(others["kind"], others["mixture"], strict=True)))


def estimates(study: Results, kind: str) -> pd.DataFrame:
    """Merge the metrics of the models of a kind over seeds, as `summary.estimates` does those of CLIP models."""
    others = study.further.others
    return summary.over_seeds(summary.merged(others[others["kind"] == kind]), study.further.mixtures, kind)


def result_table(study: Results) -> list[dict[str, object]]:
    """Return rows for the page's result table, of the shape of `summary.result_table` and with their `kind`."""
    rows: list[dict[str, object]] = []
    for kind, name in models(study):
        frame = estimates(study, kind)
        row: dict[str, object] = {"mixture": name, "kind": KIND_WORDS[kind], "samples": None, "held_out_samples": 0}
        row["among_test"] = summary.pick(frame, name, study.test_domain, "held_out", summary.AMONG_TEST)
        rows.append(row | {p: summary.pick(frame, name, domain, cells) for p, domain, cells in summary.panels(study)})
    return rows


def results(study: Results) -> dict[str, float | int]:
    """Return the flat, rounded numbers for metrics/numbers.csv.

    `<kind>.<name>.<panel>.<metric>` of each model that stands beside, and the least difference of each CLIP mixture
    from the baseline that the study would find.
    """
    flat: dict[str, float | int] = {}
    for kind, name in models(study):
        frame = estimates(study, kind)
        for panel, domain, cells in summary.panels(study):
            row = summary.pick(frame, name, domain, cells)
            if row is not None:
                flat[f"{kind}.{name}.{panel}.n"] = int(row["n"])
            for metric in frame["metric"].unique():
                found = summary.pick(frame, name, domain, cells, metric)
                flat |= summary.entries(f"{kind}.{name}.{panel}.{metric}", found)
    return flat | _detectable(study)


def _detectable(study: Results) -> dict[str, float]:
    """Return the least difference from the baseline that the study would find, a mixture."""
    rows = comparisons(study)
    rows = rows[(rows["baseline"] == study.baseline) & (rows["metric"] == summary.PRIMARY)]
    rows = rows[(rows["kind"] == CLIP) & (rows["cells"] == "held_out") & (rows["domain"] == study.test_domain)]
    rows = rows[rows["detectable"].notna()]
    known = zip(rows["mixture"], rows["detectable"].astype(float), strict=True)
    return {f"{mixture}.held_out.minus_baseline.detectable": round(value, PLACES) for mixture, value in known}


def over_seeds(study: Results) -> pd.DataFrame:
    """Return mixtures.parquet's rows on the panels of the page, a readable `place` and `model` added."""
    return _placed(study, study.further.mixtures)


def comparisons(study: Results) -> pd.DataFrame:
    """Return comparisons.parquet's rows on the panels of the page, a readable `place` and `model` added."""
    return _placed(study, study.further.comparisons)


def _placed(study: Results, frame: pd.DataFrame) -> pd.DataFrame:
    places = {(domain, cells): place for place, domain, cells in summary.panels(study)}
    place = [places.get(key) for key in zip(frame["domain"], frame["cells"], strict=True)]
    frame = frame.assign(place=place, model=_names(frame))
    return frame[frame["place"].notna()].reset_index(drop=True)


def _names(frame: pd.DataFrame) -> list[str]:
    """Name the models of a table: CLIP models by their mixture, others with their kind."""
    return [model_name(kind, name) for kind, name in zip(frame["kind"], frame["mixture"], strict=True)]


def model_name(kind: str, name: str) -> str:
    """Name a model: a CLIP model by its mixture, another with its kind."""
    return name if kind == CLIP else f"{name} ({KIND_WORDS.get(kind, kind)})"


def robustness_table(study: Results) -> list[dict[str, Any]]:
    """Return accuracies on the further sets, means over seeds: one row a set, model and label space.

    `metrics` maps a metric's name to its row; `n`, `n_classes` and `seeds` are those of the set and model.
    """
    frame = study.further.robustness
    keys = ["set", "kind", "mixture", "labels"]
    rows: list[dict[str, Any]] = []
    for key, part in frame.groupby(keys, sort=False):
        name, kind, mixture, labels = cast("tuple[str, ...]", key)
        means = part.groupby("metric", sort=False)[["estimate", "low", "high"]].mean()
        row: dict[str, Any] = {"set": name, "model": model_name(kind, mixture), "labels": labels}
        row |= {"metrics": {str(metric): ends for metric, ends in means.iterrows()}}
        rows.append(row | {k: int(part[k].iloc[0]) for k in ("n", "n_classes")} | {"seeds": part["seed"].nunique()})
    return sorted(rows, key=lambda row: str(row["set"]))
