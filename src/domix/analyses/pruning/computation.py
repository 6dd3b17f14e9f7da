"""The tables of one run: accuracy of its pruned head, and of the whole one at every checkpoint.

Shapes: N images, R directions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.model_facts import cell_groups
from domix.analyses.pruning.settings import Settings
from domix.embed.embeddings import load_scored
from domix.evaluate.metrics import balanced_accuracy
from domix.evaluate.outcomes import ScoredModel
from domix.evaluate.trajectories import epochs_of
from domix.evaluate.zeroshot import rank_right
from domix.runtime.seeds import numpy_generator
from domix.signature.directions import HeadDirections, cosines, head_directions, importance
from domix.signature.pruning import correct_when_pruned, kept_count, pruning_order

if TYPE_CHECKING:
    from domix.analyses.contract import RunInputs

Groups = dict[str, NDArray[np.bool_]]


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Prune the head of one run.

    Raises:
        DataError: an input is missing or damaged, or there are fewer images than directions.
    """
    rows = inputs.readout.rows
    groups = cell_groups(inputs.study, rows)
    read = np.logical_or.reduce(list(groups.values()))
    here = {name: inside[read] for name, inside in groups.items() if inside.any()}
    curves = pruned_curves(inputs, settings, read, here)
    return {"curves": curves, "checkpoints": checkpoint_table(inputs, read, here)}


def pruned_curves(inputs: RunInputs, settings: Settings, read: NDArray[np.bool_], groups: Groups) -> pd.DataFrame:
    """Return the accuracy of the pruned head on the images `read` [N], in groups of these."""
    found = inputs.readout
    chosen = (found.rows["domain"] == inputs.study.natural_domain).to_numpy() | (settings.images == "all")
    directions, label = head_directions(found.head), found.rows["label"].to_numpy()[read]
    images = found.activations[read]
    table = []
    for order, draw, rank in orders(directions, found.activations[chosen], settings):
        correct = correct_when_pruned(directions, images, label, rank, settings.percent, bias=found.bias)
        for percent, right in zip(settings.percent, correct, strict=True):
            head = {"order": order, "draw": draw, "percent": float(percent), "kept": kept_count(len(rank), percent)}
            table += [head | values for values in accuracies(label, right, groups)]
    return pd.DataFrame(table)


def orders(
    directions: HeadDirections, activations: NDArray[np.float32], settings: Settings
) -> Iterator[tuple[str, int, NDArray[np.int64]]]:
    """Yield (name, draw, order [R], pruned first in front): by importance, by singular value, and random ones."""
    values = directions.singular_values
    yield "importance", 0, pruning_order(importance(values, cosines(directions, activations), settings.importance))
    yield "singular value", 0, pruning_order(values)
    for draw in range(settings.draws):
        yield "random", draw, numpy_generator(settings.seed, "pruning", draw).permutation(len(values))


def checkpoint_table(inputs: RunInputs, read: NDArray[np.bool_], groups: Groups) -> pd.DataFrame:
    """Return the accuracy of the whole head at every checkpoint, as the evaluation has it."""
    label, table = inputs.readout.rows["label"].to_numpy()[read], []
    for epoch, checkpoint in epochs_of(ScoredModel(inputs.run, "", inputs.embeddings_folder)):
        blocks, start = [], 0
        for scores in load_scored(inputs.embeddings_folder, inputs.run.kind, checkpoint=checkpoint).blocks():
            mine = read[start : start + len(scores)]
            blocks.append(scores[mine])
            start += len(scores)
        right = rank_right(np.concatenate(blocks), label[:, None])[1] == 1
        table += [{"checkpoint": epoch, **values} for values in accuracies(label, right, groups)]
    return pd.DataFrame(table)


def accuracies(label: NDArray[np.int64], right: NDArray[np.bool_], groups: Groups) -> list[dict[str, object]]:
    """Return balanced accuracy of each group of images."""
    return [
        {"cells": name, "accuracy": balanced_accuracy(label[here], right[here]), "n": int(here.sum())}
        for name, here in groups.items()
    ]
