"""The linear head whose logits are scored: the model's own, or a probe that is trained on training images.

Shapes: M training images, K classes, d features, C outputs.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domix.embed.feature_model import FeatureModel, Vectors
from domix.embed.passes import ComputeContext
from domix.ood.blocks import Floats, Ints
from domix.ood.probes import linear_probe
from domix.ood.probes.linear_probe import IMAGENET, IN21K, Recipe, train_probe
from domix.ood.probes.pseudo_labels import class_texts, pseudo_labels
from domix.ood.probes.rows import few_shot_rows
from domix.runtime.code_digest import code_digest
from domix.runtime.errors import ParameterError
from domix.runtime.files import digest_of
from domix.runtime.kept import Kept

FEW = "few:"
BASELINE = "in21k"  # true labels, by the recipe of PLP's baseline on ImageNet-21k features
MANY = 100_000  # training images from which batches are those of the reference's probes on ImageNet


@dataclass(frozen=True)
class Head:
    """logits = features @ weight.T + bias.

    Attributes:
        weight: [C, d].
        bias: [C].
        is_known: outputs are the known classes, in their order.
        what: whose it is, for messages.
    """

    weight: Floats
    bias: Floats
    is_known: bool
    what: str


def own_head(model: FeatureModel, classes: Sequence[str]) -> Head | None:
    """Return the model's own head, of the known classes alone where its outputs are known to be theirs.

    Raises:
        DataError: the head is no linear layer.
    """
    if (found := model.head()) is None:
        return None
    weight, bias = (part.astype(np.float64) for part in found)
    outputs = model.outputs(classes)
    if outputs is None:
        return Head(weight, bias, False, "head")
    return Head(weight[outputs], bias[outputs], True, "head")


@dataclass(frozen=True)
class Training:
    """Training images: features [M, d], and labels [M], true or pseudo; none where nothing names their classes.

    Attributes:
        features: of the images.
        labels: of them.
        says: what they are, for the reader.
    """

    features: Vectors
    labels: Ints | None
    says: str


def shots_of(probe: str | None) -> int | None:
    """Return how many images of each class a probe is trained on; None: all.

    Raises:
        ParameterError: there is no such probe.
    """
    if probe in (None, "labels", "pseudo", BASELINE):
        return None
    number = probe.removeprefix(FEW)
    if not probe.startswith(FEW) or not number.isdecimal() or int(number) < 1:
        raise ParameterError(f"--probe is {probe!r}: give labels, pseudo, few:<images of each class> or {BASELINE}")
    return int(number)


def with_pseudo_labels(
    training: Training, model: FeatureModel, prototypes: Vectors | None, classes: Sequence[str], scale: float
) -> Training:
    """Label training images by the nearest class text, as if their true labels were not known.

    Args:
        training: images, whose labels tell how many are right.
        model: a CLIP model.
        prototypes: of the classes [K, D].
        classes: their names.
        scale: of the cosines.

    Raises:
        ParameterError: the model has no text tower.
        DataError: two classes read the same.
    """
    joint = model.joint(training.features)
    if joint is None or prototypes is None:
        raise ParameterError(f"{model.name} has no text tower to make pseudo-labels with: take --probe labels")
    class_texts(classes)
    found = pseudo_labels(joint, prototypes, logit_scale=scale, known=training.labels)
    right = "" if found.accuracy is None else f", {100 * found.accuracy:.1f} % right"
    return Training(training.features, found.labels, f"{training.says} by pseudo-labels{right}")


def train_head(training: Training, probe: str, classes: int, context: ComputeContext) -> Head:
    """Train a linear probe, unless that has been done; the head reads features that are not standardised.

    Args:
        training: its images.
        probe: labels, pseudo, few:<k> or in21k, as `shots_of` takes it.
        classes: how many there are.
        context: where it is kept, and what computes.

    Raises:
        DataError: the images have no classes, or a class has too few.
    """
    if training.labels is None:
        raise ParameterError(f"{training.says} have no classes to train a probe on: take --probe pseudo")
    features, labels, shots = training.features, training.labels, shots_of(probe)
    if shots is not None:
        rows = few_shot_rows(labels, shots, classes=classes)
        features, labels = features[rows], labels[rows]
    recipe = IN21K if probe == BASELINE else Recipe() if len(labels) < MANY else IMAGENET
    key = {
        "what": "probe",
        "code": code_digest(linear_probe.__name__),
        "torch": importlib.metadata.version("torch"),
        "recipe": asdict(recipe),
        "classes": classes,
        "data": digest_of(features=_sha256(features), labels=_sha256(labels), shape=list(features.shape)),
    }

    def make(folder: Path) -> None:
        made = train_probe(features, labels, recipe, classes=classes, device=context.device)
        np.savez(folder / "probe.npz", weight=made.weight, bias=made.bias, mean=made.mean, std=made.std)

    home = Kept(context.cache / "probes").open(key, make, what="probe")
    with np.load(home / "probe.npz") as found:
        weight = found["weight"].astype(np.float64) / found["std"]
        return Head(weight, found["bias"] - weight @ found["mean"].astype(np.float64), True, "probe")


def _sha256(array: NDArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()
