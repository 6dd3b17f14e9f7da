"""`domix ood`: how well one model, trained here or not, tells foreign images from known ones: docs/ood.md.

It prints a table, and writes what it is asked to, beside what is kept in .cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from domix.analyses.ood.images import StudyImages, deal_parts, score_images
from domix.analyses.ood.settings import Settings
from domix.cli.detection.output import table_text, write_openood, write_reference
from domix.cli.detection.sets import open_foreign, open_known
from domix.cli.models.evaluate_model import open_asked
from domix.data.classes.names import class_text
from domix.embed.evaluation_sets import EvaluationSet
from domix.embed.image_sets import embed_classes, embed_images
from domix.embed.prompts import render_prompts
from domix.evaluate.metrics import balanced_accuracy
from domix.ood.metrics import id_accuracy
from domix.ood.tables import detection_table
from domix.project.embedding import means_of
from domix.runtime.errors import ParameterError, passing
from domix.runtime.settings import replace
from domix.settings.params import Params


def main(
    params: Params,
    model: str,
    known_set: str,
    foreign_sets: Sequence[str],
    *,
    architecture: str | None = None,
    scores: Sequence[str] = (),
    classes: Path | None = None,
    templates: str | None = None,
    convention: str = "plp",
    json_file: Path | None = None,
    csv_file: Path | None = None,
) -> None:
    """Embed the sets with a model, score their images, and print how well they are told apart."""
    settings = settings_of(params, scores)
    if csv_file is not None and len(settings.scores) > 1:
        raise ParameterError("--csv holds the results of one score: choose it with --score")
    known = open_known(params, known_set, classes)
    foreign = [open_foreign(params, name, known) for name in foreign_sets]
    names = [what.source for what in (known, *foreign)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ParameterError(f"two of the sets are called {twice[0]}: name each once, or rename its folder")
    subject, context = open_asked(params, model, architecture), means_of(params)
    with passing(templates="--templates" if templates else "embed.templates"):
        prompts = render_prompts(templates or params.embed.templates, [class_text(name) for name in known.classes])
    prototypes = embed_classes(subject, prompts, context)
    features = np.concatenate([embed_images(subject, what, context) for what in (known, *foreign)])
    images = StudyImages(_rows(known, foreign), features, prototypes, known.source)
    is_known = (images.rows["cells"] == "seen").to_numpy()
    labels = images.rows["label"].to_numpy()[is_known]
    part = deal_parts(labels, min(settings.folds, len(labels)), seed=settings.seed)
    found = {
        name: score_images(images, is_known, name, options, logit_scale=settings.logit_scale, part=part)
        for name, options in settings.scores.items()
    }
    inside = {score: values[is_known] for score, values in found.items()}
    groups = dict(images.rows.loc[~is_known, ["told", "cells"]].itertuples(index=False, name=None))
    outside = {
        name: {score: values[(images.rows["told"] == name).to_numpy()] for score, values in found.items()}
        for name in groups
    }
    logits = features[is_known] @ prototypes.T
    balanced = balanced_accuracy(labels, logits.argmax(axis=1) == labels)
    print(f"known: {len(labels):,} images of {len(prototypes):,} classes of {known.source}", end="; ")
    print(f"balanced zero-shot accuracy {100 * balanced:.1f} %")
    print(table_text(detection_table(inside, outside, groups=groups), convention))
    if json_file is not None:
        write_reference(json_file, inside, outside, settings)
    if csv_file is not None:
        score = next(iter(inside))
        told = {name: some[score] for name, some in outside.items()}
        write_openood(csv_file, inside[score], told, groups, id_accuracy(logits, labels))


def settings_of(params: Params, scores: Sequence[str]) -> Settings:
    """Return how images are scored: as the analysis ood does, by some scores alone if they are named.

    Raises:
        ParameterError: there is no such score, or embeddings do not serve it.
    """
    asked = params.analyses.get("ood")
    settings = asked if isinstance(asked, Settings) else Settings()
    if not scores:
        return settings
    return replace(settings, scores={name: settings.scores.get(name, {}) for name in scores}, shown=scores[0])


def _rows(known: EvaluationSet, foreign: Sequence[EvaluationSet]) -> pd.DataFrame:
    """Return the rows of StudyImages, and as `told` the name of each foreign set: with its group, if it has both."""
    parts = [known.rows.assign(set=known.source, cells="seen", told="")]
    for what in foreign:
        cells = what.rows["class"].map(what.groups)
        told = what.source + " " + cells if cells.nunique() > 1 else what.source
        parts.append(what.rows.assign(set=what.source, cells=cells, told=told))
    return pd.concat(parts, ignore_index=True)
