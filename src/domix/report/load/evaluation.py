"""What the evaluation says beyond the metrics of single CLIP models: other models, all seeds together, checkpoints.

Tables of docs/architecture.md, cut to the models that were asked for. A model is (kind, mixture, seed); `kind` is clip
(trained here), supervised (a classifier trained here) or public (not trained here: `mixture` is its name, seed 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from domix.runtime.errors import DataError
from domix.runtime.files import read_json
from domix.runtime.tables import read_table

CLIP, SUPERVISED, PUBLIC = "clip", "supervised", "public"
COLUMNS = {
    "mixtures": [
        "kind",
        "mixture",
        "domain",
        "cells",
        "metric",
        "estimate",
        "low",
        "high",
        "n",
        "n_classes",
        "seeds",
        "checkpoints",
        "chance",
        "method",
    ],
    "comparisons": [
        "kind",
        "domain",
        "cells",
        "metric",
        "mixture",
        "baseline",
        "difference",
        "low",
        "high",
        "p_value",
        "p_holm",
        "n",
        "n_classes",
        "seeds",
        "checkpoints",
        "detectable",
    ],
    "curves": ["kind", "mixture", "seed", "checkpoint", "domain", "cells", "metric", "estimate", "n", "n_classes"],
    "robustness": [
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
        "method",
    ],
    "effective": [
        "kind",
        "mixture",
        "seed",
        "checkpoint",
        "x_name",
        "y_name",
        "x",
        "y",
        "expected",
        "residual",
        "transform",
        "reference",
        "low",
        "high",
    ],
}


@dataclass(frozen=True)
class Asked:
    """The models that were asked for: mixtures of CLIP models and of classifiers, their seeds, names of public ones."""

    mixtures: Sequence[str]
    seeds: Sequence[int]
    supervised: Sequence[str] = ()
    public: Sequence[str] = ()

    def runs(self, kind: str) -> list[tuple[str, int]]:
        """List the models of a kind: (mixture, seed)."""
        if kind == PUBLIC:
            return [(name, 0) for name in self.public]
        names = self.mixtures if kind == CLIP else self.supervised
        return [(name, seed) for name in names for seed in self.seeds]

    def order(self) -> dict[tuple[str, str], int]:
        """Return the place of each (kind, mixture): CLIP models, then classifiers, then public models."""
        names = [(kind, name) for kind in (CLIP, SUPERVISED, PUBLIC) for name, _ in self.runs(kind)]
        return {name: place for place, name in enumerate(dict.fromkeys(names))}


@dataclass(frozen=True)
class Further:
    """The tables (COLUMNS), and `others`: the rows of metrics.parquet of models that are no CLIP models of the study.

    `classifiers` maps (mixture, seed) of the supervised models to their two JSON files.
    """

    others: pd.DataFrame
    mixtures: pd.DataFrame
    comparisons: pd.DataFrame
    curves: pd.DataFrame
    robustness: pd.DataFrame
    effective: pd.DataFrame
    classifiers: dict[tuple[str, int], dict[str, Any]]


def read_further(artifacts: Path, asked: Asked, *, partial: bool = False) -> Further:
    """Read the tables below the folder `artifacts`; one that an earlier evaluation did not write is empty.

    Raises:
        DataError: a table is unreadable; unless `partial`, metrics.parquet holds nothing of another model asked for.
    """
    folder = artifacts / "eval"
    tables = {name: _read(folder / f"{name}.parquet", columns, asked) for name, columns in COLUMNS.items()}
    metrics = with_kind(read_table(folder / "metrics.parquet"))
    others = _asked(metrics[metrics["kind"] != CLIP], asked)
    classifiers = {}
    for kind in (SUPERVISED, PUBLIC):
        rows = others[others["kind"] == kind]
        found = set(zip(rows["mixture"], rows["seed"], strict=True))
        for name, seed in asked.runs(kind):
            if (name, seed) in found and kind == SUPERVISED:
                classifiers[name, seed] = read_model(artifacts / "models" / SUPERVISED / f"{name}-s{seed}")
            if (name, seed) not in found and not partial:
                raise DataError(
                    f"{folder}/metrics.parquet holds nothing for the {kind} model {name} seed {seed}: run dvc repro"
                )
    return Further(others=others, classifiers=classifiers, **tables)


def read_model(folder: Path) -> dict[str, Any]:
    """Read what a training says of its model: config.json and done.json."""
    return {"config": read_json(folder / "config.json"), "done": read_json(folder / "done.json")}


def with_kind(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the column `kind`; tables that lack it are of CLIP models."""
    return frame if "kind" in frame else frame.assign(kind=CLIP)


def _read(path: Path, columns: list[str], asked: Asked) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame(columns=columns)
    return _asked(read_table(path, columns), asked)


def _asked(frame: pd.DataFrame, asked: Asked) -> pd.DataFrame:
    """Return the rows of the models asked for, ordered by model; the order inside a model stays."""
    order = asked.order()
    models = list(zip(frame["kind"], frame["mixture"], strict=True))
    kept = pd.Series([model in order for model in models], index=frame.index, dtype=bool)
    if "seed" in frame:
        kept &= frame["seed"].isin(asked.seeds) | (frame["kind"] == PUBLIC)
    if "baseline" in frame:
        kept &= frame["baseline"].isin([name for _, name in order])
    place = pd.Series([order.get(model, -1) for model in models], index=frame.index, dtype=int)
    return frame[kept].iloc[place[kept].argsort(kind="stable")].reset_index(drop=True)
