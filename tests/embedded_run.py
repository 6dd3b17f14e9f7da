"""A run for the tests of analyses: 144 images, half of them for the test, a model of seed 3, and its embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from domix.analyses.contract import RunInputs, Shared
from domix.analyses.registry import find
from domix.data.store.index import read_index, write_index
from domix.embed.clip import embed_clip, open_subject
from domix.embed.passes import ComputeContext
from domix.model.checkpoint import save_weights
from domix.model.clip import build
from domix.runs import Run
from domix.runtime.files import write_json
from domix.study import Study
from tests.tiny import CONFIG, WORDS, write_project

SHARED = Shared(confidence=0.9, near_bits=6, drop="none", batch=16)
STUDY = Study("sketch", "real", (WORDS[0], WORDS[1]), ("real", "sketch"), tuple(sorted(WORDS)))


def write_embedded_run(
    home: Path, *, labels: Sequence[int] | None = None, checkpoints: Sequence[int] = (), epochs: int | None = None
) -> None:
    """Write the project below `home`.

    Args:
        home: an empty folder.
        labels: of the images, numbers of the sorted WORDS; None: as `write_project` has them.
        checkpoints: epochs whose weights are kept, too, each of another model, and embedded.
        epochs: after how many the last weights came.
    """
    write_project(home, count=144)
    shards = home / "artifacts/shards/emoji"
    index = read_index(shards)
    changed = index.assign(split=["test" if row >= 72 else "train" for row in range(144)])
    if labels is not None:
        classes = sorted(WORDS)
        changed = changed.assign(label=list(labels), **{"class": [classes[label] for label in labels]})
    write_index(shards, changed.astype(index.dtypes))
    folder = home / "artifacts/models/clip/tiny-s3"
    save_weights(build(CONFIG, seed=3), folder / "model.safetensors")
    write_json(folder / "config.json", {"model": CONFIG})
    kept = {epoch: folder / f"checkpoints/epoch_{epoch:03d}.safetensors" for epoch in checkpoints}
    for epoch, path in kept.items():
        save_weights(build(CONFIG, seed=epoch + 10), path)
    out, context = home / "artifacts/embeddings/clip/tiny-s3", ComputeContext(home / ".cache", 16)
    embed_clip(open_subject(folder), out, context, templates="a {}.", study=shards, checkpoints=kept, epochs=epochs)


def inputs_of(home: Path, cache: Path) -> RunInputs:
    """Return the run below `home`, with a cache of its own."""
    run = Run("clip", "tiny", 3)
    return RunInputs(replace(STUDY, runs=(run,)), run, ("emoji",), home / "artifacts", cache, SHARED)


def run_analysis(name: str, inputs: RunInputs, **settings: object) -> dict[str, pd.DataFrame]:
    """Return an analysis' tables."""
    analysis = find(name)
    return analysis.run(inputs, analysis.Settings(**settings))
