"""Two experiments side by side: every metric with both intervals, every test class, and the parameters that changed.

Both intervals are those of each experiment by itself. Where they overlap, nothing is said: a difference between models
that read the same images may be known better than either of them, which a study that holds both would show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from domix.evaluate.schemas import METRICS, PER_CLASS
from domix.figures.charts import Bar
from domix.figures.figure import Figure
from domix.report.figures.accuracies import balanced_accuracies
from domix.report.page import page
from domix.report.tables import other_models, summary
from domix.runtime.errors import DataError

CLASSES = 400  # rows of the table of classes: the greatest differences
KEYS = ["kind", "mixture", "place", "metric"]
PARTS = ["held_out", "seen", "natural"]  # parts in the study, which come first
ENDS = ["estimate", "low", "high"]


@dataclass(frozen=True)
class Experiment:
    """One of two experiments: its name, its parameters as the file holds them, and its tables with a column `kind`."""

    label: str
    params: Mapping[str, Any]
    metrics: pd.DataFrame
    per_class: pd.DataFrame


@dataclass(frozen=True)
class Change:
    """A parameter that differs; None: not there."""

    name: str
    before: str | None
    after: str | None


def read_experiment(label: str, params: Mapping[str, Any], artifacts: Path) -> Experiment:
    """Read what is compared of an experiment from its folder `artifacts`.

    Raises:
        DataError: a table is missing or damaged, or the parameters are of no study.
    """
    needed = ("test_domain", "natural_domain", "evaluate")
    if lacking := [key for key in needed if key not in params]:
        raise DataError(f"the parameters of {label} have no {lacking[0]}: compare studies")
    read = {schema.name: schema.read(artifacts / "eval" / f"{schema.name}.parquet") for schema in (METRICS, PER_CLASS)}
    return Experiment(label, params, **read)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """List the parameters that differ, by dotted name."""
    one, other = flat(before), flat(after)
    names = [*one, *(name for name in other if name not in one)]
    found = [Change(name, one.get(name), other.get(name)) for name in names]
    return [change for change in found if change.before != change.after]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return nested parameters as one mapping of dotted names to values as text."""
    leaves: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = str(value)
    return leaves


def metric_rows(before: Experiment, after: Experiment) -> pd.DataFrame:
    """Return KEYS, `estimate_a, low_a, high_a, n_a, seeds_a`, the same of b, and `difference` (b less a).

    A metric that only one experiment has is there, too, its other side NaN. Places are named by their part in the
    study (held out, seen, natural), so that experiments with different test domains can be compared; all others by
    their domain.
    """
    sides = [_merged(experiment) for experiment in (before, after)]
    frame = sides[0].merge(sides[1], on=KEYS, how="outer", suffixes=("_a", "_b"), sort=False)
    order = {key: place for place, key in enumerate(map(tuple, pd.concat(sides)[KEYS].drop_duplicates().to_numpy()))}
    keys = list(map(tuple, frame[KEYS].to_numpy()))
    ranks = [(PARTS.index(key[2]) if key[2] in PARTS else len(PARTS), order[key]) for key in keys]
    frame = frame.iloc[sorted(range(len(frame)), key=ranks.__getitem__)].reset_index(drop=True)
    return frame.assign(difference=frame["estimate_b"] - frame["estimate_a"])


def _merged(experiment: Experiment) -> pd.DataFrame:
    """Return an experiment's metrics, means over seeds: KEYS, ENDS, n, seeds."""
    metrics = experiment.metrics
    test, natural = experiment.params["test_domain"], experiment.params["natural_domain"]
    names = {(test, "held_out"): "held_out", (test, "seen"): "seen", (natural, "all"): "natural"}
    names |= {(test, "all"): "test domain"}
    places = [names.get(key, f"{key[0]}, {key[1]}") for key in zip(metrics["domain"], metrics["cells"], strict=True)]
    groups = metrics.assign(place=places).groupby(KEYS, sort=False)
    return groups[[*ENDS, "n"]].mean().join(groups["seed"].agg(seeds="nunique")).reset_index()


def class_rows(before: Experiment, after: Experiment) -> pd.DataFrame:
    """Return the test classes whose accuracy differs: `kind, mixture, class, accuracy_a, accuracy_b, n_b, difference`.

    Means over seeds on the held-out images, the greatest differences first.
    """
    keys = ["kind", "mixture", "class"]
    sides = [
        e.per_class[e.per_class["held_out"]].groupby(keys, sort=False)[["accuracy", "n"]].mean().reset_index()
        for e in (before, after)
    ]
    frame = sides[0].merge(sides[1], on=keys, suffixes=("_a", "_b"))
    frame = frame.assign(difference=frame["accuracy_b"] - frame["accuracy_a"])
    frame = frame[frame["difference"] != 0]
    order = frame.assign(size=-frame["difference"].abs()).sort_values(["size", "mixture", "class"], kind="stable").index
    return frame.loc[order].reset_index(drop=True)


def figure(rows: pd.DataFrame, place: str) -> Figure | None:
    """Return both experiments' balanced accuracy of every CLIP model in one place; None where there is none."""
    mine = rows[(rows["kind"] == "clip") & (rows["metric"] == summary.PRIMARY) & (rows["place"] == place)]
    bars = [
        Bar(f"{row['mixture']} {side.upper()}", *(float(row[f"{end}_{side}"]) for end in ENDS), kind=kind)
        for _, row in mine.iterrows()
        for side, kind in (("a", "lower"), ("b", "plain"))
        if not pd.isna(row[f"estimate_{side}"])
    ]
    return balanced_accuracies(f"accuracy-{place}", f"Balanced accuracy ({place})", bars) if bars else None


def render(before: Experiment, after: Experiment) -> str:
    """Return the page of the comparison as HTML text; it needs nothing else."""
    rows, classes = metric_rows(before, after), class_rows(before, after)
    drawn = {place: figure(rows, place) for place in PARTS}
    context = {
        "a": before,
        "b": after,
        "changes": changed(before.params, after.params),
        "rows": [_named(row) for row in rows.to_dict("records")],
        "classes": [_named(row) for row in classes.head(CLASSES).to_dict("records")],
        "class_count": len(classes),
        "figures": {place: made for place, made in drawn.items() if made},
        "places": list(dict.fromkeys(rows["place"])),
        "metric_names": list(dict.fromkeys(rows["metric"])),
        "css": Markup(page.source("style.css")),
        "js": Markup(page.source("page.js")),
    }
    return page.environment().get_template("compare.html").render(context)


def _named(row: dict[Any, Any]) -> dict[Any, Any]:
    """Return a row with its model's name, and whether its two intervals lie apart."""
    ends = [row.get(f"{end}_{side}", float("nan")) for end in ("low", "high") for side in ("a", "b")]
    apart = not any(map(pd.isna, ends)) and (ends[0] > ends[3] or ends[1] > ends[2])
    return row | {"model": other_models.model_name(row["kind"], row["mixture"]), "apart": apart}
