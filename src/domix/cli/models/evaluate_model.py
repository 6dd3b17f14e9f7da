"""`domix evaluate-model`: accuracy of one model, trained here or not, outside the pipeline: docs/any-model.md.

It prints a table and writes nothing but what is kept in .cache: decoded images and embeddings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from domix.data.classes.test_classes import load_test_classes
from domix.embed.classifier import embed_classifier
from domix.embed.clip import ClipSubject, embed_clip
from domix.embed.embeddings import load_scored, sets_of
from domix.embed.public import open_public
from domix.evaluate.outcomes import Plan, ScoredModel, classify
from domix.evaluate.robustness import robustness_table
from domix.evaluate.tables import metric_table
from domix.model.checkpoint import CONFIG
from domix.project.common import ARTIFACTS
from domix.project.embedding import folder_of, means_of
from domix.project.public_models import from_root, open_named
from domix.runtime.errors import DataError, ParameterError, passing
from domix.runtime.files import read_json
from domix.settings.params import Params
from domix.study import PUBLIC, SUPERVISED, Run, Study

ROW, COLUMN = ["domain", "cells", "n", "n_classes"], "metric"


def main(params: Params, name: str, architecture: str | None = None, source: str | None = None) -> None:
    """Embed a source's test images with a model and print its accuracies.

    A classifier's folder, supervised or fine-tuned, is a model, too; what it cannot tell is refused.
    """
    study, classifier = params.sources[0], classifier_folder(params, name)
    sets = [] if source in (None, study) else [source]
    with passing(templates="embed.templates"), TemporaryDirectory() as temporary:
        folder, shards = Path(temporary) / "model", [folder_of(name) for name in sets]
        packed: dict[str, Any] = {"study": ARTIFACTS / "shards" / study, "sets": shards}
        if classifier is not None:
            embed_classifier(classifier, folder, means_of(params), **packed)
            if left_out := set(sets) - set(sets_of(folder)):
                raise DataError(
                    f"the classifier {name} has no outputs for the classes of {left_out.pop()}: name other images"
                )
        else:
            subject = open_asked(params, name, architecture)
            embed_clip(subject, folder, means_of(params), templates=params.embed.templates, **packed)
        model = ScoredModel(Run(PUBLIC if classifier is None else SUPERVISED, name, 0), "", folder)
        print(table_of(params, model, sets))


def classifier_folder(params: Params, name: str) -> Path | None:
    """Return the folder of the classifier of Domix's that is meant by a name; None: it is none."""
    folder = Path(from_root(name)).expanduser()
    if name in params.models or not (folder / CONFIG).is_file() or "encoder" not in read_json(folder / CONFIG):
        return None
    return folder


def open_asked(params: Params, model: str, architecture: str | None) -> ClipSubject:
    """Open the model: one of the parameters' names goes before a file of the same name."""
    if model not in params.models:
        return open_public(from_root(model), architecture and from_root(architecture))
    if architecture is not None:
        raise ParameterError(f"models.{model} is described in params.yaml: leave --architecture out")
    return open_named(params, model)


def table_of(params: Params, model: ScoredModel, sets: list[str]) -> str:
    """Return the estimates with their intervals, one row a group of images, one column a metric, as text."""
    plan = plan_of(params, model)
    if sets:
        found, rows = robustness_table([model], sets, plan), ["set", "labels", "n", "n_classes"]
    else:
        found, rows = metric_table([classify(load_scored(model.folder, model.run.kind), plan, model, 0)], plan), ROW
    shown = [
        f"{100 * e:.1f}" + ("" if pd.isna(low) else f" [{100 * low:.1f}, {100 * high:.1f}]")
        for e, low, high in zip(found["estimate"], found["low"], found["high"], strict=True)
    ]
    metrics = list(dict.fromkeys(found[COLUMN]))
    wide = found.assign(shown=shown).set_index([*rows, COLUMN])["shown"].unstack(COLUMN)
    order = pd.MultiIndex.from_frame(found[rows].drop_duplicates())
    return wide.loc[order, metrics].fillna("").reset_index().to_string(index=False)


def plan_of(params: Params, model: ScoredModel) -> Plan:
    """Return what is measured: as the stage evaluate does, of the images that were embedded."""
    meta = load_scored(model.folder, model.run.kind).meta
    return Plan(
        study=study_over(params, meta["domains"], meta["classes"]),
        top_k=params.evaluate.top_k,
        resamples=params.evaluate.bootstrap,
        confidence=params.evaluate.confidence,
        seed=params.evaluate.seed,
    )


def study_over(params: Params, domains: Sequence[str], classes: Sequence[str]) -> Study:
    """Return the parameters' study over the domains and classes of its packed source, without runs."""
    return Study(
        test_domain=params.test_domain,
        natural_domain=params.natural_domain,
        test_classes=tuple(load_test_classes(params.test_classes, list(classes))),
        domains=tuple(domains),
        classes=tuple(classes),
    )
