"""The tables of a study: results with their uncertainty and their place below the upper bound, and comparisons.

The relative gap of a mixture is (mixture - natural-only) / (upper bound - natural-only): 0 is as natural-only, 1 as if
the held-out cells had been shown.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from domix.report.paper.collection import F1, PRIMARY, Collection
from domix.report.paper.mixtures import BASELINE, in_order

LOW_BOUND, HIGH_BOUND = "cg-low-all", "cg-high-all"
BOUND_OF = {"cg-low": (LOW_BOUND, HIGH_BOUND), "cg-low-all": (LOW_BOUND, HIGH_BOUND)}
COMPARED = ["test_domain", "kind", "metric", "mixture", "baseline", "difference", "low", "high", "p_value", "p_holm"]
COMPARED += ["detectable", "n", "n_classes", "seeds", "checkpoints"]
ROBUST = [
    "test_domain",
    "kind",
    "mixture",
    "seed",
    "set",
    "labels",
    "metric",
    "estimate",
    "low",
    "high",
    "n",
    "n_classes",
]
KINDS = ("clip", "supervised", "public")


def metrics_of(study: Collection) -> list[str]:
    """Return the paper's three metrics; two where k is 1."""
    return list(dict.fromkeys([PRIMARY, f"balanced_top{study.top_k}", F1]))


def result_table(study: Collection) -> pd.DataFrame:
    """Return every model's accuracy on the held-out cells: one row a test domain, kind, mixture and metric.

    Columns: `test_domain, kind, mixture, metric, estimate, low, high, n, n_classes, seeds, seeds_asked, checkpoints,
    chance, gap, upper_bound`; gap is NaN, and upper_bound empty, where there are no bounds, or none above natural-only.
    """
    parts = [_results(study, domain, kind) for domain in study.test_domains for kind in KINDS]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _results(study: Collection, domain: str, kind: str) -> pd.DataFrame:
    rows = study.rows("mixtures", domain, kind, domain=domain, cells="held_out")
    order = {name: place for place, name in enumerate(in_order(sorted(set(rows["mixture"])), study.shown[domain]))}
    parts = []
    for metric in metrics_of(study):
        part = rows[rows["metric"] == metric].copy()
        known = dict(zip(part["mixture"], part["estimate"], strict=True))
        bounds = {name: _bound(study, domain, name, known) for name in known}
        part["upper_bound"] = [bounds[name] for name in part["mixture"]]
        part["gap"] = [_gap(known, name, bounds[name]) for name in part["mixture"]]
        parts.append(part.sort_values("mixture", key=lambda names: names.map(order), kind="stable"))
    frame = pd.concat(parts, ignore_index=True)
    frame["seeds_asked"] = [study.wanted.get((domain, kind, name), 0) for name in frame["mixture"]]
    columns = ["test_domain", "kind", "mixture", "metric", "estimate", "low", "high", "n", "n_classes", "seeds"]
    return frame[[*columns, "seeds_asked", "checkpoints", "chance", "gap", "upper_bound"]]


def _bound(study: Collection, domain: str, mixture: str, known: dict[str, float]) -> str:
    """Return the upper bound that a mixture is measured against: that of its own domains, else the other."""
    shown = study.shown[domain].get(mixture)
    if shown is None or BASELINE not in known:
        return ""
    preferred = BOUND_OF.get(shown.family, (HIGH_BOUND, LOW_BOUND))
    bound = next((name for name in preferred if name in known), "")
    return bound if bound and known[bound] > known[BASELINE] else ""


def _gap(known: dict[str, float], mixture: str, bound: str) -> float:
    return (known[mixture] - known[BASELINE]) / (known[bound] - known[BASELINE]) if bound else np.nan


def comparison_table(study: Collection) -> pd.DataFrame:
    """Return the paired comparisons on the held-out cells, by test domain, kind, metric and baseline."""
    frame = study.tables["comparisons"]
    frame = frame[(frame["domain"] == frame["test_domain"]) & (frame["cells"] == "held_out")]
    frame = frame[frame["metric"].isin(metrics_of(study))]
    places = {"test_domain": study.test_domains, "kind": list(KINDS), "metric": metrics_of(study)}
    places |= {"baseline": study.mixtures, "mixture": study.mixtures}
    orders = {column: {name: at for at, name in enumerate(names)} for column, names in places.items()}
    keys = [[order.get(name, len(order)) for name in frame[column]] for column, order in orders.items()]
    return frame.iloc[np.lexsort(keys[::-1])][COMPARED].reset_index(drop=True)


def robustness_table(study: Collection) -> pd.DataFrame:
    """Return the accuracy on further evaluation sets, run by run."""
    return study.tables["robustness"][ROBUST].reset_index(drop=True)


def missing_table(study: Collection) -> pd.DataFrame:
    """Return the runs that were asked for and are not there: where they stand, why, and their log file."""
    rows = [
        (m.test_domain, m.run.kind, m.run.mixture, m.run.seed, m.run.state, m.why, m.run.log) for m in study.missing
    ]
    return pd.DataFrame(rows, columns=["test_domain", "kind", "mixture", "seed", "state", "why", "log"])
