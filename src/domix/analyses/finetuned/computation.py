"""The tables of one run: its model fine-tuned on natural images, measured at every weight between before and after.

All models of a study are fine-tuned on the same images: those for training of the natural domain, of every class, which
natural-only holds of the multi-domain source; without copies of held-out images where mixtures leave these out.

Shapes: N test images, D embedding, K classes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from domix.activations.encode import unit_embeddings
from domix.analyses.finetuned.settings import Settings
from domix.analyses.model_facts import cell_groups
from domix.analyses.pruning import settings as pruning
from domix.analyses.pruning.computation import accuracies, orders
from domix.analyses.run_cka.minibatch import minibatch_cka
from domix.analyses.sampling import draw_rows
from domix.data.loading.image_cache import digest_of_images
from domix.data.mixtures.duplicates import rows_to_drop
from domix.data.store.index import read_index
from domix.embed.clip import open_subject
from domix.embed.evaluation_images import open_images
from domix.encoders.encoder import ImageEncoder
from domix.encoders.split import split_classifier
from domix.evaluate.metrics import accuracy, balanced_accuracy
from domix.evaluate.schemas import BALANCED, POOLED
from domix.evaluate.zeroshot import rank_right
from domix.finetuning.interpolation import along
from domix.finetuning.packed import open_labelled
from domix.finetuning.wise_ft import Start, WiseFt, fine_tune
from domix.model.zero_shot_classifier import ZeroShotClassifier, zero_shot_classifier, zero_shot_head
from domix.runtime.code_digest import code_digest
from domix.runtime.files import digest_of
from domix.runtime.locks import alone
from domix.signature.directions import head_directions
from domix.signature.pruning import correct_when_pruned, kept_count
from domix.signature.summary import signature_numbers

if TYPE_CHECKING:
    from domix.analyses.contract import RunInputs

SIGNATURE = ("kurtosis", "se", "outliers", "norm_share", "top", "max_to_mean", "effective_rank")
CKA_BATCH = 256  # images that are compared at a time
Groups = dict[str, NDArray[np.bool_]]
Vectors = NDArray[np.float32]


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Fine-tune the model of one run, unless that was done before, and measure it along the way.

    Raises:
        DataError: an input is missing or damaged, a class has no natural training image, or there are fewer natural
            test images than directions.
        ParameterError: a batch is larger than all training images.
        DomixError: the fine-tuning diverged.
    """
    start, scale = start_of(inputs)
    train = natural_training_images(inputs)
    folder = fine_tuned(inputs, settings, start, train)
    rows, groups = test_images(inputs, settings)
    context, readers = inputs.model.context, inputs.model.readers
    images = open_images(
        context.cache / "evaluation", readers[inputs.sources[0]], rows, start.preprocess, threads=context.threads
    )
    label, natural = rows["label"].to_numpy(np.int64), groups["natural"]
    tables: dict[str, list[dict[str, Any]]] = {"curve": [], "signature": [], "pruning": []}
    first: Vectors | None = None
    for alpha, model in along(folder, settings.alphas):
        assert isinstance(model, ZeroShotClassifier), "what was fine-tuned here"
        tower = split_classifier(model).tower
        encoder = ImageEncoder(tower, model.visual, start.preprocess, output="features", device=context.device)
        features = np.concatenate(list(unit_embeddings(encoder, images.batches(context.batch))))
        first = features if first is None else first
        weight, bias = (value.detach().cpu().numpy() / scale for value in (model.head.weight, model.head.bias))
        at = {"alpha": alpha}
        tables["curve"] += [at | row for row in accuracy_rows(features @ weight.T + bias, label, groups)]
        told = signature_numbers(features[natural], weight, kind=settings.importance)
        both = minibatch_cka(
            {"output": first[natural]}, {"output": features[natural]}, size=CKA_BATCH, seed=settings.seed
        )
        counts = {"n": int(natural.sum()), "cka": float(both[0, 0]), "trained_on": len(train)}
        tables["signature"].append(at | {name: told[name] for name in SIGNATURE} | counts)
        tables["pruning"] += [at | row for row in pruning_rows(features, weight, bias, label, groups, settings)]
    return {name: pd.DataFrame(found) for name, found in tables.items()}


def start_of(inputs: RunInputs) -> tuple[Start, float]:
    """Return the run's zero-shot classifier of the study's classes, and the factor of its logits."""
    subject, embeddings = open_subject(inputs.model_folder), inputs.embeddings
    scale = float(subject.model.logit_scale.detach().exp())
    head = zero_shot_head(torch.from_numpy(np.array(embeddings.text)), scale)
    model = zero_shot_classifier(subject.model.visual, head, size=subject.preprocess.size[0])
    about = {"weights_sha256": subject.sha256, "logit_scale": scale, "templates": embeddings.meta["templates"]}
    return Start(model, embeddings.classes, subject.preprocess, dict(subject.about), about), scale


def natural_training_images(inputs: RunInputs) -> pd.DataFrame:
    """Return the rows of the natural training images in the multi-domain source's index, no copies of held-out ones."""
    source, study, shared = inputs.sources[0], inputs.study, inputs.shared
    index = read_index(inputs.artifacts / "shards" / source)
    inside = (index["split"] == "train") & (index["domain"] == study.natural_domain)
    if shared.drop != "none":
        bits = shared.near_bits if shared.drop == "near" else None
        gone = rows_to_drop({source: index}, study.test_domain, study.test_classes, near_bits=bits)
        inside &= ~index["row"].isin(gone[source])
    return index[inside].reset_index(drop=True)


def fine_tuned(inputs: RunInputs, settings: Settings, start: Start, train: pd.DataFrame) -> Path:
    """Return the folder of the fine-tuned model, kept in the cache by all that it hangs on; a killed call goes on."""
    recipe = WiseFt(
        epochs=settings.epochs,
        batch=settings.batch,
        accumulate=settings.accumulate,
        lr=settings.lr,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
    )
    source = inputs.sources[0]
    digest = digest_of(
        start=start.about,
        prototypes=digest_of(values=np.round(inputs.embeddings.text, 6).tolist()),
        preprocess=asdict(start.preprocess),
        images=digest_of_images(train),
        labels=train["label"].tolist(),
        recipe=recipe.model_dump(),
        seed=settings.seed,
        code=code_digest("domix.finetuning.wise_ft"),
        torch=torch.__version__,
    )
    home = inputs.cache / "fine-tuned" / digest
    home.parent.mkdir(parents=True, exist_ok=True)
    with alone(home.with_suffix(".lock"), "fine-tuning the same model"):
        if not home.is_dir():
            reader, threads = inputs.model.readers[source], inputs.model.context.threads
            images, labels = open_labelled(train, reader, threads=threads)
            resume = inputs.cache / "resume" / digest
            fine_tune(start, images, labels, recipe, out=home, resume=resume, seed=settings.seed)
    return home


def test_images(inputs: RunInputs, settings: Settings) -> tuple[pd.DataFrame, Groups]:
    """Return the test images of test and natural domain, some of each, and which of them lie in each group of cells."""
    rows = inputs.test_images()
    rows = rows[rows["domain"].isin((inputs.study.test_domain, inputs.study.natural_domain))].reset_index(drop=True)
    if settings.images is not None:
        drawn = draw_rows(rows["domain"].to_numpy(dtype=object), settings.images, seed=settings.seed)
        rows = rows.iloc[drawn].reset_index(drop=True)
    groups = cell_groups(inputs.study, rows)
    return rows, {name: inside for name, inside in groups.items() if inside.any()}


def accuracy_rows(scores: Vectors, label: NDArray[np.int64], groups: Groups) -> list[dict[str, Any]]:
    """Return the accuracies of scores [N, K] on each group of images."""
    right = rank_right(scores, label[:, None])[1] == 1
    return [
        {"cells": name, "metric": metric, "estimate": value, "n": int(inside.sum())}
        for name, inside in groups.items()
        for metric, value in (
            (BALANCED, balanced_accuracy(label[inside], right[inside])),
            (POOLED, accuracy(right[inside])),
        )
    ]


def pruning_rows(
    features: Vectors,
    head: Vectors,
    bias: Vectors,
    label: NDArray[np.int64],
    groups: Groups,
    settings: Settings,
) -> list[dict[str, Any]]:
    """Return the accuracy of the pruned head by order and share, as the analysis `pruning` of zero-shot heads."""
    directions, table = head_directions(head), []
    how = pruning.Settings(importance=settings.importance, draws=settings.draws, seed=settings.seed)
    for order, draw, rank in orders(directions, features[groups["natural"]], how):
        correct = correct_when_pruned(directions, features, label, rank, settings.percent, bias=bias)
        for percent, right in zip(settings.percent, correct, strict=True):
            row = {"order": order, "draw": draw, "percent": float(percent), "kept": kept_count(len(rank), percent)}
            table += [row | values for values in accuracies(label, right, groups)]
    return table
