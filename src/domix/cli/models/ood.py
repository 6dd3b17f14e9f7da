"""`domix ood`: how well one model, trained here or not, tells foreign images from known ones: docs/ood.md.

It prints a table, and writes what it is asked to, beside what is kept in .cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import pandas as pd

from domix.analyses.ood.choosing import split_known
from domix.analyses.ood.images import Flags
from domix.analyses.sae.names import vocabulary
from domix.cli.detection.heads import Training, own_head, shots_of, train_head, with_pseudo_labels
from domix.cli.detection.output import shown_table, write_openood, write_reference
from domix.cli.detection.scoring import Options, Scored, settings_of
from domix.cli.detection.sets import open_foreign, open_known, open_training
from domix.cli.models.evaluate_model import classifier_folder, open_asked
from domix.data.classes.names import class_text
from domix.embed.evaluation_sets import NONE_OF_THEM, EvaluationSet
from domix.embed.feature_model import FeatureModel, of_classifier, of_clip
from domix.embed.image_sets import embed_classes, embed_images
from domix.embed.passes import ComputeContext
from domix.embed.prompts import render_prompts
from domix.encoders.backbones import TIMM, TORCHVISION
from domix.evaluate.metrics import balanced_accuracy
from domix.ood.blocks import Floats
from domix.ood.choice import text_of
from domix.ood.metrics import id_accuracy
from domix.ood.scores.prototypes import mine_negatives
from domix.ood.scores.registry import find_score
from domix.ood.tables import detection_table
from domix.project.embedding import means_of
from domix.project.public_models import from_root
from domix.runtime.errors import DataError, ParameterError, passing
from domix.settings.params import Params

Features = Literal["joint", "tower"]
FOREIGN_WORDS = 0.5  # share of the shipped words, those farthest from the classes, that are negative labels


@dataclass(frozen=True)
class Asked:
    """What is asked for beside the model and its sets."""

    architecture: str | None = None
    alpha: float | None = None  # of a fine-tuned folder's weights in between
    scores: Sequence[str] = ()
    classes: Path | None = None  # file of the known classes' names
    templates: str | None = None
    features: Features | None = None  # None: joint of a CLIP model, else tower
    train: str | None = None  # set of training images
    probe: str | None = None  # labels, pseudo, few:<k> or in21k
    validate: str | None = None  # set of foreign images that chooses hyper-parameters
    convention: str = "plp"
    json_file: Path | None = None
    csv_file: Path | None = None
    served: bool = False  # scores that a model does not serve are left out, and not refused


@dataclass(frozen=True)
class Sets:
    """The sets of images."""

    known: EvaluationSet
    foreign: Sequence[EvaluationSet]
    training: EvaluationSet | None
    validation: EvaluationSet | None = None

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The images, known ones, foreign, validating: set, label, cells, and told, the name of each foreign set."""
        parts = [self.known.rows.assign(set=self.known.source, cells="seen", told="")]
        for what in self.foreign:
            cells = what.rows["class"].map(what.groups)
            told = what.source + " " + cells if cells.nunique() > 1 else what.source
            parts.append(what.rows.assign(set=what.source, cells=cells, told=told))
        if self.validation is not None:
            parts.append(self.validation.rows.assign(set=self.validation.source, cells="validation", told=""))
        return pd.concat(parts, ignore_index=True)

    def of(self, cells: str) -> Flags:
        return (self.rows["cells"] == cells).to_numpy(dtype=np.bool_)


@dataclass(frozen=True)
class Measured:
    """How well one model tells the foreign images, and how well it reads the known ones.

    Attributes:
        table: domix.ood.tables.detection_table.
        says: what is to be told of the model beside it, a line each.
        options: hyper-parameters of each score.
        inside: scores of the known images that are reported on, by score.
        outside: of the foreign ones, by set and score.
        groups: near or far, by set.
        scored: all that was computed.
        reported: which images the known ones are [N].
    """

    table: pd.DataFrame
    says: list[str]
    options: Mapping[str, Options]
    inside: Mapping[str, Floats]
    outside: Mapping[str, Mapping[str, Floats]]
    groups: Mapping[str, str]
    scored: Scored
    reported: Flags


def main(params: Params, model: str, known: str, foreign: Sequence[str], asked: Asked) -> None:
    """Embed the sets with a model, or with each of a list, and print how well they are told apart."""
    check_asked(asked)
    sets, context = open_sets(params, known, foreign, asked), means_of(params)
    found = measure(params, model, sets, asked, context)
    scored, reported = found.scored, found.reported
    accuracy, line = _accuracy(scored, reported)
    print(f"known: {reported.sum():,} images of {len(sets.known.classes):,} classes of {sets.known.source}{line}")
    for one in found.says:
        print(one)
    print(shown_table(found.table, asked.convention).to_string(index=False))
    if asked.json_file is not None:
        scale = None if scored.head is not None else scored.settings.logit_scale
        write_reference(asked.json_file, found.inside, found.outside, found.options, scale)
    if asked.csv_file is not None:
        score = next(iter(found.inside))
        told = {name: some[score] for name, some in found.outside.items()}
        write_openood(asked.csv_file, found.inside[score], told, found.groups, accuracy)


def check_asked(asked: Asked) -> None:
    """Refuse what does not go together.

    Raises:
        ParameterError: options that need others, or names of scores and probes that there are not.
    """
    if asked.csv_file is not None and len(asked.scores) != 1:
        raise ParameterError("--csv holds the results of one score: choose it with --score")
    if asked.probe is not None and asked.train is None:
        raise ParameterError("--probe needs images of its own to be trained on: name them with --train")
    shots_of(asked.probe)
    for name in asked.scores:
        find_score(name)


def measure(params: Params, model: str, sets: Sets, asked: Asked, context: ComputeContext) -> Measured:
    """Embed the sets with a model, and score their images.

    Raises:
        ParameterError: there is no such model, or it does not serve a score.
        DataError: its weights are absent or damaged, or a score cannot be computed.
    """
    opened = open_features(params, model, asked.architecture, asked.features, device=context.device, alpha=asked.alpha)
    scored, says = _embed(params, opened, sets, asked, context)
    names = asked.scores
    if asked.served and (unserved := [why for name in names if (why := scored.lacks(name)) is not None]):
        names = [name for name in names if scored.lacks(name) is None]
        if not names:
            raise ParameterError(unserved[0])
        says += [f"left out: {why}" for why in unserved]
    scores = scored.choose(names, validated=sets.validation is not None)
    reported = scored.known
    if sets.validation is not None:
        scores, reported, chosen = _choose(scored, sets, scores)
        says += chosen
    found = {name: scored.score(name, options) for name, options in scores.items()}
    inside = {score: values[reported] for score, values in found.items()}
    tested = sets.rows[sets.rows["told"] != ""]
    groups = dict(tested[["told", "cells"]].itertuples(index=False, name=None))
    outside = {
        name: {score: values[(sets.rows["told"] == name).to_numpy()] for score, values in found.items()}
        for name in groups
    }
    table = detection_table(inside, outside, groups=groups)
    return Measured(table, says, scores, inside, outside, groups, scored, reported)


def open_features(
    params: Params,
    model: str,
    architecture: str | None,
    features: Features | None,
    *,
    device: str,
    alpha: float | None = None,
) -> FeatureModel:
    """Open any image model: a CLIP model as `domix evaluate-model` takes it, or a classifier.

    A classifier is `timm/<name>` or `torchvision/<name>`, or weights whose architecture is such, or Domix's own folder;
    of one that `domix finetune` wrote, `alpha` asks for the weights in between.

    Raises:
        ParameterError: there is no such model, or it has no such features.
        DataError: its weights are absent, damaged, or another model's, or there are none in between.
    """
    if alpha is not None:
        from domix.finetuning.interpolation import write_interpolated  # here: it brings what trains, Lightning for one

        with TemporaryDirectory() as temporary:
            between = Path(temporary) / "model"
            write_interpolated(Path(from_root(model)).expanduser(), alpha, between)
            opened = open_features(params, str(between), None, features, device=device)
        return replace(opened, name=model, about=opened.about | {"model": model, "alpha": alpha})
    kind = architecture or model
    own = classifier_folder(params, kind) is not None and model not in params.models
    if model in params.models or not (own or kind.startswith((TIMM, TORCHVISION))):
        subject = open_asked(params, model, architecture)
        return of_clip(subject, features or "joint", name=model, device=device)
    weights = None if architecture is None else from_root(model)
    with passing(output="--features"):
        return of_classifier(from_root(kind) if own else kind, weights, features or "tower", device=device)


def open_sets(params: Params, known: str, foreign: Sequence[str], asked: Asked) -> Sets:
    """Open the sets of images that are asked for, and tell what they share.

    Raises:
        DataError: a set is absent or cannot be what it is asked to be.
        ParameterError: two sets have one name.
    """
    opened = open_known(params, known, asked.classes)
    found = [open_foreign(params, name, opened) for name in foreign]
    names = [what.source for what in (opened, *found)]
    validation = None
    if asked.validate is not None:
        validation = open_foreign(params, asked.validate, opened, option="--validate", otherwise="near")
        if validation.source in names:
            raise DataError(
                f"{validation.source} would both choose hyper-parameters and be reported on: name another set with"
                " --validate"
            )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ParameterError(f"two of the sets are called {twice[0]}: name each once, or rename its folder")
    training = None if asked.train is None else open_training(params, asked.train, opened)
    return Sets(opened, found, training, validation)


def _embed(
    params: Params, model: FeatureModel, sets: Sets, asked: Asked, context: ComputeContext
) -> tuple[Scored, list[str]]:
    """Return all arrays that scores are computed of, and what is to be told of the training images."""
    settings, classes = settings_of(params), sets.known.classes
    fixed: dict[str, Any] = {}
    if model.clip is not None:
        with passing(templates="--templates" if asked.templates else "embed.templates"):
            prompts = _prompts(params, asked, classes)
        fixed["prototypes"] = embed_classes(model.clip, prompts, context)
        if "neglabel" in asked.scores:
            names = {class_text(name).casefold() for name in classes}
            words = [word for word in vocabulary([], []) if word.casefold() not in names]
            embedded = embed_classes(model.clip, _prompts(params, asked, words), context)
            count = max(1, round(FOREIGN_WORDS * len(words)))
            fixed["negatives"] = embedded[mine_negatives(embedded, fixed["prototypes"], count)]
    every = [sets.known, *sets.foreign, *([] if sets.validation is None else [sets.validation])]
    features = np.concatenate([embed_images(model, what, context) for what in every])
    head, says = own_head(model, classes), []
    if sets.training is not None:
        training = _training(model, sets.training, context)
        if asked.probe == "pseudo":
            scale = settings.logit_scale
            training = with_pseudo_labels(training, model, fixed.get("prototypes"), classes, scale)
        if asked.probe is not None:
            head = train_head(training, asked.probe, len(classes), context)
        fixed["bank"] = training.features
        if training.labels is not None:
            fixed["labels"] = training.labels
        says.append(f"trained on: {training.says}")
    known, labels = sets.of("seen"), sets.rows["label"].to_numpy(np.int64)
    labels = np.where(known, labels, NONE_OF_THEM)
    return Scored(model.name, features, model.joint(features), head, fixed, known, labels, settings), says


def _prompts(params: Params, asked: Asked, classes: Sequence[str]) -> list[list[str]]:
    return render_prompts(asked.templates or params.embed.templates, [class_text(name) for name in classes])


def _training(model: FeatureModel, images: EvaluationSet, context: ComputeContext) -> Training:
    labels = images.rows["label"].to_numpy(np.int64)
    says = f"{len(labels):,} images of {images.source}"
    return Training(embed_images(model, images, context), None if (labels == NONE_OF_THEM).all() else labels, says)


def _choose(scored: Scored, sets: Sets, scores: Mapping[str, Options]) -> tuple[dict[str, Options], Flags, list[str]]:
    """Choose hyper-parameters on the validation set and one part of the known images; the others are reported on."""
    assert sets.validation is not None
    inside, reported = split_known(scored.known, scored.part)
    tests, validation = [what.source for what in sets.foreign], sets.validation.source
    chosen, says = {}, []
    for name, options in scores.items():
        found = scored.validated(name, options, inside, sets.of("validation"), validation=validation, tests=tests)
        chosen[name] = found.options
        if len(found.tried) > 1:
            says.append(f"{name} ({text_of(found.options)})")
    if not says:
        says.append("nothing, for the scores have no hyper-parameters")
    return chosen, reported, [f"chosen on {inside.sum():,} other known images and {validation}: {', '.join(says)}"]


def _accuracy(scored: Scored, known: Flags) -> tuple[float, str]:
    """Return the accuracy on known images, and how it is told; NaN and nothing where the model names other classes."""
    logits, head = scored.logits(), scored.head
    if logits is None or (head is not None and not head.is_known):
        return float("nan"), ""
    logits, labels = logits[known], scored.labels[known]
    balanced = 100 * balanced_accuracy(labels, logits.argmax(axis=1) == labels)
    what = "zero-shot accuracy" if head is None else f"accuracy of the {head.what}"
    return id_accuracy(logits, labels), f"; balanced {what} {balanced:.1f} %"
