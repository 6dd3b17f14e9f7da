"""Embeddings of further sets of images with given scores, and a plan to measure them by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from domix.evaluate.outcomes import Plan
from domix.runtime.files import write_json
from domix.runtime.tables import write_table
from domix.study import Study

PLAN = Plan(
    study=Study("sketch", "real", test_classes=("axe",), domains=("real", "sketch"), classes=("axe",)),
    top_k=5,
    resamples=200,
    confidence=0.9,
    seed=0,
)


def write_set(
    folder: Path,
    name: str,
    label: np.ndarray,
    scores: np.ndarray,
    *,
    kind: str = "clip",
    checkpoints: dict[int, np.ndarray] | None = None,
    **judged: Any,
) -> None:
    """Write the embeddings of a set such that the scores, also those of `checkpoints`, come out as given."""
    home = folder / "sets" / name
    kept = {home / "checkpoints" / f"{epoch:03d}": array for epoch, array in (checkpoints or {}).items()}
    for place, array in ({home: scores} | kept).items():
        place.mkdir(parents=True)
        if kind == "supervised":
            np.save(place / "scores.npy", array)
        else:
            np.save(place / "image.npy", array)
            np.save(place / "text.npy", np.eye(array.shape[1], dtype=np.float32))
    rows = {"row": np.arange(len(label)), "key": [f"k{n}" for n in range(len(label))], "domain": name}
    write_table(home / "rows.parquet", pd.DataFrame(rows | {"class": [f"c{n}" for n in label], "label": label}))
    meta = {"format": 1, "model_sha256": "0" * 64, "source": name, "templates": "clip"}
    classes = [f"c{n}" for n in range(scores.shape[1])]
    write_json(home / "meta.json", meta | {"classes": classes, "subset": None, "answers": None} | judged)
