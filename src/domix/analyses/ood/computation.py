"""The tables of all runs together: every run scores the same images, and mixtures are compared in the same resamples.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from domix.analyses.contract import Findings
from domix.analyses.ood import ANALYSIS
from domix.analyses.ood.choosing import (
    choose_score,
    option_rows,
    set_of,
    split_known,
    validation_images,
    without_validation,
)
from domix.analyses.ood.flags import class_rows, flag_rows
from domix.analyses.ood.images import Flags, Floats, StudyImages, deal_parts, read_images, score_images
from domix.analyses.ood.models import correlation_rows, model_rows
from domix.analyses.ood.resampled import difference_rows, measure, metric_rows
from domix.analyses.ood.settings import Settings
from domix.data.mixtures.composition import CELLS
from domix.embed.embeddings import checkpoints_of
from domix.ood.choice import Options, several
from domix.runs import CLIP
from domix.runtime.errors import DataError
from domix.runtime.files import sha256_file

if TYPE_CHECKING:
    from domix.analyses.contract import StudyInputs
    from domix.study import Run, Study


def joint_key(inputs: StudyInputs, settings: Settings) -> Mapping[str, Any]:
    """Return digests of all runs' embeddings, those of sets and checkpoints too, and of what the mixtures hold."""
    files = {"cells": inputs.artifacts / "mixtures" / "cells.parquet"}
    for run in inputs.study.runs:
        folder = inputs.of_run(run).embeddings_folder
        found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "layers.safetensors")
        name = run.name if run.kind == CLIP else f"{run.kind}/{run.name}"
        files |= {f"{name}/{path.relative_to(folder)}": path for path in found}
    return {name: sha256_file(path) for name, path in files.items() if path.exists()}


def run_jointly(inputs: StudyInputs, settings: Settings) -> Findings:
    """Score the images of every run, then measure and compare, each group of models by itself.

    Raises:
        DataError: a file is missing or damaged, runs have embedded other images, or too few of them are known.
        ParameterError: a hyper-parameter is out of range.
    """
    kinds = dict.fromkeys(run.kind for run in inputs.study.runs)
    groups = [tables_of(inputs, inputs.study.of_kind(kind), settings) for kind in kinds]
    return Findings({name: pd.concat([each[name] for each in groups], ignore_index=True) for name in groups[0]})


def tables_of(inputs: StudyInputs, study: Study, settings: Settings) -> dict[str, pd.DataFrame]:
    """Return the tables of one group of models, the runs of `study`.

    Raises:
        DataError, ParameterError: as `run_jointly`.
    """
    confidence = inputs.shared.confidence
    cells = CELLS.read(inputs.artifacts / "mixtures" / "cells.parquet")
    scores: dict[Run, dict[str, Floats]] = {}
    models: list[dict[str, Any]] = []
    options: list[dict[str, Any]] = []
    rows: pd.DataFrame | None = None
    for run in study.runs:
        folder = inputs.of_run(run).embeddings_folder
        for checkpoint in (*checkpoints_of(folder), None):
            images = read_images(folder, run, study, inputs.sources[0], _sets(settings), checkpoint)
            rows = images.rows if rows is None else rows
            if not images.rows.equals(rows):
                raise DataError(f"{folder} is of other images than the run before it", remake=folder)
            images, found, tried = _score(images, run, checkpoint, study, settings)
            options += tried
            models += model_rows(run, checkpoint, images, study, found)
            if checkpoint is None:
                scores[run] = found
    known, groups = images.known(study), images.groups(study)  # the same of all
    measured = measure(scores, known, groups, settings)
    parts = {
        "metrics": metric_rows(scores, known, groups, measured, confidence),
        "differences": difference_rows(study, measured, confidence),
        "flags": flag_rows(scores, images, known, cells, study, confidence),
        "classes": class_rows(scores, images, known, groups),
        "models": models,
        "correlations": correlation_rows(
            pd.DataFrame(models), confidence, resamples=settings.resamples, seed=settings.seed
        ),
        "options": options,
    }
    return {name: _table(name, study.kind, part) for name, part in parts.items()}


def _sets(settings: Settings) -> list[str] | None:
    """Return the sets that are read: those that are reported on, and the one that chooses; None: all."""
    if settings.sets is None or settings.validation is None:
        return settings.sets
    return list(dict.fromkeys([*settings.sets, set_of(settings.validation)[0]]))


def _score(
    images: StudyImages, run: Run, checkpoint: int | None, study: Study, settings: Settings
) -> tuple[StudyImages, dict[str, Floats], list[dict[str, Any]]]:
    """Return the images that are reported on, every score of all images [N], and the rows of the table options."""
    known: Flags = images.known(study)
    if known.sum() < settings.folds:
        raise DataError(
            f"{int(known.sum())} {study.natural_domain} images of classes that are no test classes are too few to be"
            f" the known ones, which are dealt into {settings.folds} parts: name fewer test_classes, or leave"
            " analyses.ood out"
        )
    part = deal_parts(images.rows["label"].to_numpy()[known], settings.folds, seed=settings.seed)

    def scored(name: str, options: Options, rows: Flags) -> Floats:
        some = replace(images, rows=images.rows[rows], features=images.features[rows])
        return score_images(some, known[rows], name, options, logit_scale=settings.logit_scale, part=part)

    wanted = settings.scores_of(study.kind)
    everything, choices = np.ones(len(known), np.bool_), {}
    inside = outside = ~everything
    if settings.validation is not None:
        outside = validation_images(images.rows, settings.validation, settings.seed)
        inside, reported = split_known(known, part)
        if reported.sum() < 2 or not inside.any():
            raise DataError(f"{int(known.sum())} known images are too few to choose on some and report on others")
        for name, options in wanted.items():
            if several(options):
                choices[name] = choose_score(
                    *(name, options, partial(scored, name), inside, outside),
                    known=known,
                    bank=len(part) - int(np.bincount(part).max()),
                    validation=settings.validation,
                )
    chosen = dict(wanted) | {name: choice.options for name, choice in choices.items()}
    found = {name: scored(name, options, everything) for name, options in chosen.items()}
    rows = option_rows(run, checkpoint, wanted, choices, (int(inside.sum()), int(outside.sum())))
    return without_validation(images, inside | outside), found, rows


def _table(name: str, kind: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = ANALYSIS.joint_tables[name].columns
    table = pd.DataFrame(rows, columns=[column.name for column in columns]).assign(kind=kind)
    return table.astype({column.name: column.dtype for column in columns})
