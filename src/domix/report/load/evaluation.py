"""What the evaluation says beyond the metrics of single CLIP models: other models, all seeds together, checkpoints.

Tables of docs/architecture.md, cut to the models that were asked for. A model is (kind, mixture, seed); `kind` is clip
(trained here), supervised (a classifier trained here) or public (not trained here: `mixture` is its name, seed 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from domix.evaluate.schemas import COMPARISONS, CURVES, EFFECTIVE, METRICS, MIXTURES, PER_CLASS, ROBUSTNESS
from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.tables import TableSchema
from domix.study import CLIP, KINDS, PUBLIC, SUPERVISED, Study

FURTHER = (MIXTURES, COMPARISONS, CURVES, ROBUSTNESS, EFFECTIVE)


@dataclass(frozen=True)
class Further:
    """The tables FURTHER, and what metrics.parquet (`others`) and per_class.parquet say of other than CLIP models.

    `classifiers` maps (mixture, seed) of the supervised models to their two JSON files.
    """

    others: pd.DataFrame
    per_class: pd.DataFrame
    mixtures: pd.DataFrame
    comparisons: pd.DataFrame
    curves: pd.DataFrame
    robustness: pd.DataFrame
    effective: pd.DataFrame
    classifiers: dict[tuple[str, int], dict[str, Any]]


def read_further(artifacts: Path, study: Study, *, partial: bool = False) -> Further:
    """Read the tables below the folder `artifacts`.

    Raises:
        DataError: a table is missing or unreadable; unless `partial`, metrics.parquet holds nothing of another model
            asked for.
    """
    folder = artifacts / "eval"
    tables = {schema.name: _read(folder, schema, study) for schema in FURTHER}
    path = folder / "metrics.parquet"
    metrics = METRICS.read(path)
    others = _asked(metrics[metrics["kind"] != CLIP], study)
    per_class = PER_CLASS.read(folder / f"{PER_CLASS.name}.parquet")
    per_class = _asked(per_class[per_class["kind"] != CLIP], study)
    classifiers = {}
    for kind in (SUPERVISED, PUBLIC):
        rows = others[others["kind"] == kind]
        found = set(zip(rows["mixture"], rows["seed"], strict=True))
        for run in study.runs_of(kind):
            key = (run.mixture, run.seed)
            if key in found and kind == SUPERVISED:
                classifiers[key] = read_model(artifacts / "models" / SUPERVISED / run.name)
            if key not in found and not partial:
                raise DataError(f"{path} holds nothing for the {kind} model {run.mixture} seed {run.seed}", remake=path)
    return Further(others=others, per_class=per_class, classifiers=classifiers, **tables)


def read_model(folder: Path) -> dict[str, Any]:
    """Read what a training says of its model: config.json and done.json."""
    return {"config": read_json(folder / "config.json"), "done": read_json(folder / "done.json")}


def _read(folder: Path, schema: TableSchema, study: Study) -> pd.DataFrame:
    return _asked(schema.read(folder / f"{schema.name}.parquet"), study)


def _asked(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Return the rows of the models asked for, ordered by model; the order inside a model stays."""
    names = [(kind, name) for kind in KINDS for name in study.mixtures_of(kind)]
    order = {name: place for place, name in enumerate(names)}
    models = list(zip(frame["kind"], frame["mixture"], strict=True))
    kept = pd.Series([model in order for model in models], index=frame.index, dtype=bool)
    if "seed" in frame:
        kept &= frame["seed"].isin(study.seeds) | (frame["kind"] == PUBLIC)
    if "baseline" in frame:
        kept &= frame["baseline"].isin([name for _, name in order])
    place = pd.Series([order.get(model, -1) for model in models], index=frame.index, dtype=int)
    return frame[kept].iloc[place[kept].argsort(kind="stable")].reset_index(drop=True)
