"""The few numbers that a record of experiments shows: balanced accuracy on the page's panels."""

from __future__ import annotations

import pandas as pd

from domix.report import tables
from domix.report.further import SUPERVISED
from domix.report.study import Results


def headline(study: Results) -> dict[str, float]:
    """Return the mixtures' accuracies, means over seeds: `<panel>/<mixture>`, grouped by panel."""
    frame = tables.estimates(study)
    found = {
        f"{panel}/{mixture}": tables.pick(frame, mixture, domain, cells)
        for panel, domain, cells in tables.panels(study)
        for mixture in study.mixtures
    }
    return {name: float(row["estimate"]) for name, row in found.items() if row is not None}


def models(study: Results) -> dict[str, dict[str, float]]:
    """Return the accuracies of every model trained here by the SHA-256 of its weights: `results/<panel>`."""
    others = study.further.others
    parts = (
        (study.models, study.metrics),
        (study.further.classifiers, others[others["kind"] == SUPERVISED]),
    )
    return {
        files["done"]["weights_sha256"]: _results(study, metrics, *run)
        for runs, metrics in parts
        for run, files in runs.items()
    }


def _results(study: Results, metrics: pd.DataFrame, mixture: str, seed: int) -> dict[str, float]:
    rows = metrics[metrics["seed"] == seed]
    found = {panel: tables.pick(rows, mixture, domain, cells) for panel, domain, cells in tables.panels(study)}
    return {f"results/{panel}": float(row["estimate"]) for panel, row in found.items() if row is not None}
