"""`domix finetune`: fine-tune a CLIP model as WiSE-FT does, and tell accuracy along the weights: docs/fine-tuned.md.

By DeiT's recipe: domix.cli.models.finetune_deit.

Shapes: N images, K classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from domix.cli.detection.sets import shards_of
from domix.cli.models.evaluate_model import open_asked, study_over
from domix.data.classes.names import class_text
from domix.data.loading.image_cache import digest_of_images
from domix.data.store.index import read_index
from domix.data.store.shards import ShardReader
from domix.embed.classifier import outputs_of
from domix.embed.evaluation_images import open_images
from domix.embed.evaluation_sets import COLUMNS, EvaluationSet, further_set, study_set
from domix.embed.image_sets import embed_classes
from domix.embed.label_spaces import label_space
from domix.embed.prompts import render_prompts
from domix.encoders.crops import of_classifier_folder
from domix.encoders.encoder import classifier_encoder
from domix.evaluate.metrics import accuracy, balanced_accuracy
from domix.evaluate.outcomes import Plan, groups
from domix.evaluate.robustness import classify_set
from domix.evaluate.schemas import BALANCED, POOLED
from domix.figures.figure import Figure
from domix.figures.interpolation import over_share
from domix.figures.printed import save
from domix.finetuning.interpolation import ALPHAS, along
from domix.finetuning.packed import open_labelled
from domix.finetuning.wise_ft import Start, WiseFt, fine_tune
from domix.model.checkpoint import CONFIG
from domix.model.classifier import Classifier
from domix.model.zero_shot_classifier import zero_shot_classifier, zero_shot_head
from domix.project.common import STATE, original_root
from domix.project.embedding import means_of
from domix.runtime.errors import DataError, ParameterError, passing
from domix.runtime.files import digest_of, read_json, write_text
from domix.runtime.settings import replace
from domix.runtime.tracking.tracker import NullTracker
from domix.settings.params import Params

GROUP = ["set", "domain", "cells"]
CURVE = "curve.csv"
ALL = "all"
ONLY = {  # options that one recipe has alone
    "wise-ft": ("warmup",),
    "deit": ("warmup_epochs", "cooldown", "ema", "frozen", "share", "validate"),
}


@dataclass(frozen=True)
class Asked:
    """What is asked for beside the model, its training images and the folder; None: as WiSE-FT."""

    architecture: str | None = None
    tests: Sequence[str] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


def options_of(recipe: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that are given, of those that a recipe has.

    Raises:
        ParameterError: one that another recipe has alone is given.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for other, names in ONLY.items():
        if other != recipe and (foreign := [name for name in names if name in given]):
            option = foreign[0].replace("_", "-")
            raise ParameterError(f"--{option} is an option of --recipe {other}, and not of {recipe}: leave it out")
    return given


class Told(NullTracker):
    """Prints each row of the log."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Print loss and accuracy of the training batches."""
        print(f"step {step}: loss {values['loss']:.3f}, accuracy {100 * values['accuracy']:.1f} %", flush=True)


def main(params: Params, model: str, images: str, out: Path, asked: Asked) -> None:
    """Fine-tune a model into the folder `out`, unless it is there of an equal call, and measure it on the sets."""
    subject, context = open_asked(params, model, asked.architecture), means_of(params)
    with passing(name="--images"):
        shards = shards_of(params, images)
    with passing(name="--test"):
        tests = [test_set(params, name) for name in asked.tests]
    rows, classes = training_set(images, shards)
    with passing(templates="embed.templates"):
        prompts = render_prompts(params.embed.templates, [class_text(name) for name in classes])
    prototypes = torch.from_numpy(embed_classes(subject, prompts, context))
    scale = float(subject.model.logit_scale.detach().exp())
    size = subject.preprocess.size[0]
    classifier = zero_shot_classifier(subject.model.visual, zero_shot_head(prototypes, scale), size=size)
    config = {key: value for key, value in subject.about.items() if key != "converted_by"}
    about = {"weights_sha256": subject.sha256, "logit_scale": scale, "templates": params.embed.templates}
    start = Start(classifier, classes, subject.preprocess, config, about)
    recipe = replace(WiseFt(), **asked.recipe)
    digest = digest_of(
        start=about, prompts=prompts, images=digest_of_images(rows), recipe=recipe.model_dump(), seed=asked.seed
    )
    if not is_done(out, digest):
        print(f"fine-tuning on {len(rows):,} images of {len(classes):,} classes of {shards.name}")
        with passing(batch="--batch"), ShardReader(shards) as reader:
            data, labels = open_labelled(rows, reader, threads=context.threads)
            fine_tune(
                start,
                data,
                labels,
                recipe,
                out=out,
                resume=original_root() / STATE / "resume" / digest,
                seed=asked.seed,
                trainer=params.trainer,
                about={"asked": digest, "trained_on": {"images": shards.name, "samples": len(rows)}},
                open_tracker=Told,
                progress=True,
            )
    print(f"the fine-tuned model is {out}, what it began as lies beside it")
    if tests:
        logging.getLogger("fontTools").setLevel(logging.WARNING)  # tells of every letter that it puts into a PDF file
        curve = measure(params, out, tests, along(out, ALPHAS))
        write_text(out / CURVE, curve.to_csv(index=False))
        save(figure_of(params, curve), out)
        wide = curve.assign(shown=(100 * curve[BALANCED]).map("{:.1f}".format))
        shown = wide.pivot(index=[*GROUP, "n"], columns="alpha", values="shown")
        print(f"balanced accuracy in percent by the weight of the fine-tuned model ({out / CURVE})")
        print(
            shown.loc[pd.MultiIndex.from_frame(curve[[*GROUP, "n"]].drop_duplicates())]
            .reset_index()
            .to_string(index=False)
        )


def is_done(out: Path, digest: str) -> bool:
    """Tell whether a folder is there, of the call of this digest.

    Raises:
        ParameterError: it is there, and of another.
    """
    if out.exists() and (not (out / CONFIG).is_file() or read_json(out / CONFIG).get("asked") != digest):
        raise ParameterError(f"{out} is there already, and not of this call: name a new folder with --out")
    return out.exists()


def training_set(name: str, shards: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the images of a packed set that are for training (all, where none is said to be), and its classes.

    Raises:
        DataError: some images have no class, or there is none.
    """
    index = read_index(shards, COLUMNS)
    if index["class"].isna().any():
        raise DataError(f"{name} has images without a class to fine-tune on: sort them into <class>/")
    space, train = label_space(shards.name, shards), index[index["split"] == "train"]
    rows = (index if train.empty else train).reset_index(drop=True)
    if (answers := space.answers) is not None:
        if several := [some for some in answers if len(some) > 1]:
            raise DataError(f"{name} has {len(several)} classes that are several of ImageNet's: name another set")
        rows = rows.assign(label=rows["label"].map(lambda label: answers[label][0]).astype("int64"))
    return rows, space.classes


def test_set(params: Params, name: str) -> EvaluationSet:
    """Open a set that a fine-tuned model is measured on.

    Raises:
        ParameterError: there is none of this name.
        DataError: it is damaged, or has no test images.
    """
    shards = shards_of(params, name)
    return study_set(shards) if name == params.sources[0] else further_set(shards)


def measure(
    params: Params, folder: Path, tests: Sequence[EvaluationSet], models: Iterable[tuple[float, Classifier]]
) -> pd.DataFrame:
    """Return both accuracies of each set's groups of images: columns GROUP, alpha, metrics, n.

    Args:
        params: of the study, whose groups of cells its own images have.
        folder: of the fine-tuned model.
        tests: the sets.
        models: the weight of the fine-tuned model, and the model at that weight; read one after the other.

    Raises:
        DataError: the head has no outputs for a set's classes.
    """
    config, context = read_json(folder / CONFIG), means_of(params)
    preprocess = of_classifier_folder(config)
    outputs = {what.source: outputs_of(config["classes"], config["first_class"], what.classes) for what in tests}
    if foreign := [name for name, found in outputs.items() if found is None]:
        raise DataError(f"the fine-tuned head has no outputs for the classes of {foreign[0]}: leave it out of --test")
    table = []
    with ExitStack() as stack:
        opened = {}
        for what in tests:
            reader = stack.enter_context(ShardReader(what.shards))
            opened[what.source] = open_images(
                context.cache / "evaluation", reader, what.rows, preprocess, threads=context.threads
            )
        for alpha, model in models:
            encoder = classifier_encoder(model, preprocess, device=context.device)
            for what in tests:
                batches = opened[what.source].batches(context.batch)
                scores = (encoder.forward(batch).output[:, outputs[what.source]].cpu().numpy() for batch in batches)
                label = what.rows["label"].to_numpy(np.int64)
                right = classify_set(scores, label, subset=what.subset, answers=what.answers).right()
                for domain, cells, where in _groups(params, what):
                    found = {BALANCED: balanced_accuracy(label[where], right[where]), POOLED: accuracy(right[where])}
                    row = {"set": what.source, "domain": domain, "cells": cells, "alpha": alpha}
                    table.append(row | found | {"n": len(where)})
    return pd.DataFrame(table)


def _groups(params: Params, what: EvaluationSet) -> list[tuple[str, str, Any]]:
    if what.source != params.sources[0]:
        return [(ALL, ALL, np.arange(len(what.rows)))]
    plan = Plan(study_over(params, what.domains, what.classes), 1, 1, 0.5, 0)
    return [(group.domain, group.cells, group.where) for group in groups(what.rows, plan)]


def figure_of(params: Params, curve: pd.DataFrame) -> Figure:
    """Return the figure of the curve: of the study's images the test domain's cells and the natural domain."""
    mine = curve["set"] == params.sources[0]
    shown = ~mine | ((curve["domain"] == params.natural_domain) & (curve["cells"] == ALL))
    shown |= (curve["domain"] == params.test_domain) & curve["cells"].isin(("held_out", "seen"))
    rows = curve[shown]
    parts = rows[GROUP].replace({"held_out": "held out"}).itertuples(index=False)
    names = [" ".join(part for part in some if part != ALL) for some in parts]
    table = pd.DataFrame({"series": names, "x": rows["alpha"], "y": rows[BALANCED]})
    series, across = list(dict.fromkeys(names)), "weight of the fine-tuned model"
    title = "Accuracy between zero-shot and fine-tuned weights"
    draw = partial(over_share, table=table, names=series, across=across, shares=True, key=True)
    return Figure("curve", title, "Balanced accuracy in percent.", title, draw)
