"""The data of each figure, once for the page and for `dvc plots`.

`dvc plots` reads them from small CSV files, their names free of the test domain, so that revisions overlay.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from domix.analyses.contract import Section
from domix.report.load.evaluation import CLIP
from domix.report.load.study import Results
from domix.report.tables import summary
from domix.runtime.errors import DataError
from domix.runtime.files import write_text
from domix.runtime.tables import as_csv

PLACES = 4


def frames(study: Results) -> dict[str, pd.DataFrame]:
    """Return the plots' tables by file name without its ending.

    A fixed set of files: one with nothing to say (differences without a baseline) has its header alone.
    """
    return {
        "accuracy": accuracy(study),
        "differences": differences(study),
        "loss": loss(study),
        "per_class": _per_class(study),
        "curves": curves(study),
        "effective": _effective(study),
    }


def write(study: Results, sections: Iterable[Section], folder: Path) -> None:
    """Write `frames` and the sections' plots as CSV files into `folder`, rounded so that equal runs give equal files.

    Raises:
        DataError: two plots have one name.
    """
    parts = [frames(study), *(section.plots for section in sections)]
    names = [name for part in parts for name in part]
    if twice := sorted(name for name in set(names) if names.count(name) > 1):
        raise DataError(f"two plots are called {twice[0]!r}: an analysis must name its own otherwise")
    for name, frame in [pair for part in parts for pair in part.items()]:
        write_text(folder / f"{name}.csv", as_csv(frame.round(PLACES)))


def accuracy(study: Results) -> pd.DataFrame:
    """Return balanced accuracy with its interval by mixture on each panel of `summary.panels` (`images`)."""
    frame = summary.estimates(study)
    panels = {(domain, cells): name for name, domain, cells in summary.panels(study)}
    names = [panels.get(key) for key in zip(frame["domain"], frame["cells"], strict=True)]
    frame = frame.assign(images=names)[frame["metric"] == summary.PRIMARY].dropna(subset=["images"])
    places = {name: place for place, name in enumerate(panels.values())}
    frame = frame.sort_values("images", key=lambda column: column.map(places), kind="stable")
    return frame[["mixture", "images", "estimate", "low", "high", "n", "chance"]].reset_index(drop=True)


def differences(study: Results) -> pd.DataFrame:
    """Return the paired differences from the baseline on the held-out cells; no rows without a baseline."""
    columns = ["mixture", "baseline", "difference", "low", "high", "p_value", "n"]
    if study.baseline is None:
        return pd.DataFrame(columns=columns)
    return summary.differences(study, study.baseline)[columns]


def loss(study: Results) -> pd.DataFrame:
    """Return the training loss by step; steps that were not logged are left out."""
    return study.log.dropna(subset=["loss"])[["mixture", "seed", "step", "samples", "loss"]]


def _per_class(study: Results) -> pd.DataFrame:
    """Return the accuracy on each held-out cell, with the class's place in the order of `summary.class_table`."""
    table = summary.class_table(study)
    long = (
        table.assign(order=range(len(table)))
        .reset_index()
        .melt(["class", "order"], var_name="mixture", value_name="accuracy")
    )
    return long.dropna(subset=["accuracy"])


def curves(study: Results) -> pd.DataFrame:
    """Return balanced accuracy over checkpoints on the panels of the page, of the runs that kept more than one.

    Last weights alone are no curve, though their epochs differ from mixture to mixture.
    """
    frame = study.further.curves
    frame = frame[(frame["kind"] == CLIP) & (frame["metric"] == summary.PRIMARY)]
    names = {(domain, cells): panel for panel, domain, cells in summary.panels(study)}
    images = [names.get(key) for key in zip(frame["domain"], frame["cells"], strict=True)]
    frame = frame.assign(images=images).dropna(subset=["images"])
    kept = frame.groupby(["mixture", "seed"])["checkpoint"].transform("nunique")
    return frame[kept > 1][["mixture", "seed", "checkpoint", "domain", "cells", "images", "estimate"]]


def _effective(study: Results) -> pd.DataFrame:
    """Return each checkpoint's accuracies, and what the trend of natural images alone (on logit axes) expects."""
    columns = ["mixture", "seed", "checkpoint", "x_name", "y_name", "x", "y", "expected", "residual", "low", "high"]
    frame = checkpoints(study.further.effective)
    return frame.loc[frame["transform"] == "logit", columns]


def checkpoints(effective: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of effective.parquet that figures draw: the CLIP models', checkpoint by checkpoint."""
    return effective[effective["kind"] == CLIP]
