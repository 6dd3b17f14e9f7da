"""The study's tables as they are read: what stands in their columns, rounded."""

from __future__ import annotations

import pandas as pd

from domix.report.paper.collection import F1, PRIMARY, Collection
from domix.report.paper.results import metrics_of
from domix.report.paper.typeset import Typeset, p_value, percent, starts, with_interval

KINDS = {"clip": "CLIP", "supervised": "supervised", "public": "public"}


def spoken(metric: str) -> str:
    """Return a metric's name in words."""
    if metric == F1:
        return "macro F1"
    return metric.replace("balanced_top", "balanced top-").replace("_", " ")


def results(study: Collection, frame: pd.DataFrame) -> Typeset:
    """Return the result table: one row a model, one column a metric."""
    metrics = metrics_of(study)
    rows, place = [], []
    models = frame[["test_domain", "kind", "mixture"]].drop_duplicates()
    for domain, kind, mixture in models.itertuples(index=False):
        mine = (frame["test_domain"] == domain) & (frame["kind"] == kind) & (frame["mixture"] == mixture)
        by_metric = frame[mine].set_index("metric")
        main = by_metric.loc[PRIMARY]
        cells = [
            with_interval(*by_metric.loc[metric, ["estimate", "low", "high"]]) if metric in by_metric.index else ""
            for metric in metrics
        ]
        gap = "" if pd.isna(main["gap"]) else f"{main['gap']:.2f}"
        counts = [f"{main['n']}", f"{main['n_classes']}", f"{main['seeds']} of {main['seeds_asked']}"]
        rows.append([str(domain), KINDS[str(kind)], str(mixture), *cells, gap, *counts])
        place.append(domain)
    heads = ["test domain", "model", "mixture", *(f"{spoken(metric)}, %" for metric in metrics)]
    heads += ["relative gap", "images", "classes", "seeds"]
    caption = (
        f"Held-out cells: mean over seeds with {study.confidence * 100:g} % intervals. Relative gap: how far balanced"
        " top-1 goes from natural-only (0) to the upper bound (1)."
    )
    right = [False] * 3 + [True] * (len(heads) - 3)
    return Typeset("results", "Results", caption, heads, right, rows, starts(place))


def comparisons(study: Collection, frame: pd.DataFrame) -> Typeset:
    """Return the table of paired comparisons."""
    rows = [
        [
            row["test_domain"],
            KINDS[row["kind"]],
            spoken(row["metric"]),
            row["mixture"],
            row["baseline"],
            _signed(row["difference"]),
            f"{_signed(row['low'])} to {_signed(row['high'])}",
            p_value(row["p_holm"]),
            percent(row["detectable"]),
            f"{row['n']}",
            f"{row['seeds']}",
        ]
        for _, row in frame.iterrows()
    ]
    heads = ["test domain", "model", "metric", "mixture", "less", "difference", "interval", "p (Holm)", "detectable"]
    heads += ["images", "seeds"]
    caption = (
        "Paired differences on the held-out cells, percentage points, with"
        f" {study.confidence * 100:g} % intervals; p corrected by Holm's method over all"
        " comparisons of a test domain, kind of model and metric; detectable: the least difference that such a"
        " comparison finds with a power of 80 %."
    )
    right = [False] * 5 + [True] * (len(heads) - 5)
    return Typeset("comparisons", "Comparisons", caption, heads, right, rows, starts(list(frame["test_domain"])))


def robustness(study: Collection, frame: pd.DataFrame) -> Typeset:
    """Return the table of accuracies on further evaluation sets."""
    rows = [
        [
            row["test_domain"],
            KINDS[row["kind"]],
            row["mixture"],
            f"{row['seed']}",
            row["set"],
            row["labels"],
            spoken(row["metric"]),
            with_interval(row["estimate"], row["low"], row["high"]),
            f"{row['n']}",
        ]
        for _, row in frame.iterrows()
    ]
    heads = ["test domain", "model", "mixture", "seed", "set", "labels", "metric", "accuracy, %", "images"]
    caption = f"Further evaluation sets, with {study.confidence * 100:g} % intervals."
    right = [False] * 3 + [True] + [False] * 3 + [True, True]
    return Typeset(
        "robustness", "Further evaluation sets", caption, heads, right, rows, starts(list(frame["test_domain"]))
    )


def missing(study: Collection, frame: pd.DataFrame) -> Typeset:
    """Return the table of missing runs."""
    rows = [
        [row["test_domain"], KINDS[row["kind"]], row["mixture"], f"{row['seed']}", row["state"], row["why"], row["log"]]
        for _, row in frame.iterrows()
    ]
    heads = ["test domain", "model", "mixture", "seed", "training", "why", "log"]
    caption = f"Runs that were asked for and are not in the figures and tables: {len(rows)} of {study.asked}."
    right = [False] * 3 + [True] + [False] * 3
    return Typeset("missing", "Missing runs", caption, heads, right, rows, starts(list(frame["test_domain"])))


def _signed(value: float) -> str:
    return f"{value * 100:+.1f}"
