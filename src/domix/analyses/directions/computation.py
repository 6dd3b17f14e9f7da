"""The tables of one run: every direction of its head, and how unequal they are. Shapes: R directions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from domix.analyses.directions.settings import Settings
from domix.analyses.model_facts import model_facts
from domix.signature.directions import axis_alignment, cosines, head_directions, heavy_tail, importance
from domix.signature.outliers import outlier_features

if TYPE_CHECKING:
    from domix.analyses.contract import RunInputs

KINDS = ("abs_mean", "mean_abs")


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Measure the head of one run.

    Raises:
        DataError: an input is missing or damaged, or there are fewer images than directions.
    """
    found = inputs.readout
    chosen = (found.rows["domain"] == inputs.study.natural_domain).to_numpy() | (settings.images == "all")
    activations, directions = found.activations[chosen], head_directions(found.head)
    along = cosines(directions, activations)
    outliers = outlier_features(activations, settings.deviations).indices
    axes = abs(directions.right)
    table = pd.DataFrame(
        {
            "direction": np.arange(len(axes)),
            "singular_value": directions.singular_values,
            **{kind: importance(directions.singular_values, along, kind) for kind in KINDS},
            "cosine_with_mean": along.with_mean,
            "axis": axes.argmax(axis=1),
            "axis_component": axes.max(axis=1),
            "outlier_component": axis_alignment(directions, outliers).max(axis=1) if len(outliers) else np.nan,
        }
    )
    sizes = {"images": len(activations), "width": axes.shape[1], "rank": len(axes)}
    rows = []
    for kind in KINDS:
        tail = heavy_tail(table[kind], settings.deviations)
        top = table.loc[table[kind].idxmax(), ["direction", "cosine_with_mean", "axis_component", "outlier_component"]]
        rows.append({"importance": kind, **sizes, **vars(tail), **top.to_dict(), "outliers": len(outliers)})
    summary = pd.DataFrame(rows).astype({"direction": "int64"})
    return {"directions": table, "summary": summary, "models": model_facts(inputs)}
