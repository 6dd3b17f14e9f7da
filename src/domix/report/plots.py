"""The data behind `dvc plots`: small CSV files, their names free of the test domain, so that revisions overlay."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from domix.report import tables
from domix.report.further import CLIP
from domix.report.study import Results
from domix.runtime.files import write_text

PLACES = 4


def frames(study: Results) -> dict[str, pd.DataFrame]:
    """Return the plots' tables by file name without its ending.

    A fixed set of files: one with nothing to say (differences without a baseline) has its header alone.
    """
    return {
        "accuracy": _accuracy(study),
        "differences": _differences(study),
        "loss": study.log.dropna(subset=["loss"])[["mixture", "seed", "step", "samples", "loss"]],
        "cka": _cka(study),
        "umap": study.first(study.umap)[["mixture", "domain", "class", "withheld", "x", "y"]],
        "distances": _distances(study),
        "per_class": _per_class(study),
        "curves": _curves(study),
        "effective": _effective(study),
    }


def write(study: Results, folder: Path) -> None:
    """Write `frames` as CSV files into `folder`, numbers rounded so that equal runs give equal files."""
    for name, frame in frames(study).items():
        write_text(folder / f"{name}.csv", frame.round(PLACES).to_csv(index=False, lineterminator="\n"))


def _accuracy(study: Results) -> pd.DataFrame:
    frame = tables.estimates(study)
    rows = []
    for panel, domain, cells in tables.panels(study):
        for mixture in study.mixtures:
            row = tables.pick(frame, mixture, domain, cells)
            if row is not None:
                rows.append(
                    {"mixture": mixture, "pictures": panel} | row[["estimate", "low", "high", "n", "chance"]].to_dict()
                )
    return pd.DataFrame(rows, columns=["mixture", "pictures", "estimate", "low", "high", "n", "chance"])


def _differences(study: Results) -> pd.DataFrame:
    columns = ["mixture", "baseline", "difference", "low", "high", "p_value", "n"]
    if study.baseline is None:
        return pd.DataFrame(columns=columns)
    return tables.differences(study, study.baseline)[columns]


def _cka(study: Results) -> pd.DataFrame:
    """Return mean CKA a layer over the test classes, of the pairs with the test domain and of the others."""
    parts = []
    for kernel in study.cka["kernel"].unique():
        layers = tables.cka_layers(study, kernel, "test")
        means = layers.groupby(["mixture", "layer", "depth", "group"], sort=False, as_index=False)["value"].mean()
        parts.append(means.assign(kernel=kernel))
    names = {"test": "with the test domain", "other": "other pairs"}
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["mixture", "group"])
    return frame.assign(pairs=frame["group"].map(names)).drop(columns="group")


def _distances(study: Results) -> pd.DataFrame:
    rows = study.distances[study.distances["kind"] == "domain"]
    keys = ["mixture", "domain_a", "domain_b"]
    means = rows.groupby(keys, sort=False, as_index=False)["distance"].mean()
    turned = means.rename(columns={"domain_a": "domain_b", "domain_b": "domain_a"})[means.columns]
    return pd.concat([means, turned], ignore_index=True).drop_duplicates(keys)


def _per_class(study: Results) -> pd.DataFrame:
    """Return the accuracy on each withheld cell, with the class's place in the order of `tables.class_table`."""
    table = tables.class_table(study)
    long = (
        table.assign(order=range(len(table)))
        .reset_index()
        .melt(["class", "order"], var_name="mixture", value_name="accuracy")
    )
    return long.dropna(subset=["accuracy"])


def _curves(study: Results) -> pd.DataFrame:
    """Return balanced accuracy over checkpoints on the panels of the page; nothing where there is but one."""
    frame = study.further.curves
    frame = frame[(frame["kind"] == CLIP) & (frame["metric"] == tables.PRIMARY)]
    names = {(domain, cells): panel for panel, domain, cells in tables.panels(study)}
    pictures = [names.get(key) for key in zip(frame["domain"], frame["cells"], strict=True)]
    frame = frame.assign(pictures=pictures).dropna(subset=["pictures"])
    rows = frame if frame["checkpoint"].nunique() > 1 else frame.head(0)
    return rows[["mixture", "seed", "checkpoint", "domain", "cells", "pictures", "estimate"]]


def _effective(study: Results) -> pd.DataFrame:
    """Return each checkpoint's accuracies, and what the trend of natural pictures alone (on logit axes) expects."""
    frame = study.further.effective
    columns = ["mixture", "seed", "checkpoint", "x_name", "y_name", "x", "y", "expected", "residual", "low", "high"]
    return frame.loc[(frame["kind"] == CLIP) & (frame["transform"] == "logit"), columns]
