"""Any image model as what makes features of images, and what stands behind the features: a projection, or a head.

Shapes: N images, d features, D joint space, C outputs of a head.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from domix.embed.classifier import outputs_of
from domix.embed.clip import ClipSubject
from domix.encoders.backbones import TORCHVISION, open_backbone
from domix.encoders.encoder import ImageEncoder, clip_encoder
from domix.encoders.split import SplitModel, split_clip
from domix.model.checkpoint import CONFIG
from domix.runtime.files import read_json, sha256_file

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureModel:
    """A model whose features are read.

    Attributes:
        name: of it, for messages.
        encoder: images -> features.
        about: what the features depend on beside the images, as JSON.
        unit: features are scaled to length one, as joint embeddings are.
        behind: the part with the layer that reads the features; None: nothing, they are joint embeddings.
        clip: the whole of a CLIP model, with its text tower.
        classes: of a classifier of Domix's the names of its outputs, and the number of the study's first.
        built_from: what its tower is built from again: domix.encoders.classifiers.build_tower.
    """

    name: str
    encoder: ImageEncoder
    about: dict[str, Any]
    unit: bool
    behind: SplitModel | None = None
    clip: ClipSubject | None = None
    classes: tuple[Sequence[str | None], int] | None = None
    built_from: dict[str, Any] = field(default_factory=dict)

    def joint(self, features: Vectors) -> Vectors | None:
        """Return the embeddings of features [N, d] in the joint space, at length one [N, D]; None without a text tower.

        Raises:
            DataError: they have another width than the layer takes.
        """
        if self.clip is None:
            return None
        if self.behind is None:
            return features
        found = self.behind.project(features)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def head(self) -> tuple[Vectors, Vectors] | None:
        """Return weight [C, d] and bias [C] of a classifier's head; None of a model without one.

        Raises:
            DataError: the head is a network with layers of its own.
        """
        found = None if self.clip is not None or self.behind is None else self.behind.linear()
        if found is None:
            return None
        weight, bias = found
        return weight.T, np.zeros(weight.shape[1], np.float32) if bias is None else bias

    def outputs(self, classes: Sequence[str]) -> list[int] | None:
        """Return which output of the head stands for each of some classes; None where that cannot be known.

        Domix's classifiers know the names of their outputs. Of others, as many outputs as there are classes are taken
        to be theirs, in order.
        """
        if self.classes is not None:
            return outputs_of(*self.classes, classes)
        head = self.head()
        return list(range(len(classes))) if head is not None and len(head[0]) == len(classes) else None


def of_clip(subject: ClipSubject, output: Literal["tower", "joint"], *, name: str, device: str) -> FeatureModel:
    """Read a CLIP model before its projection (`tower`), or behind it (`joint`).

    Raises:
        DataError: its tower is of a kind that cannot be cut.
    """
    about = {"weights": subject.sha256, "model": dict(subject.about), "output": output}
    built_from = {"clip": {key: value for key, value in subject.about.items() if key != "converted_by"}}
    if output == "joint":
        encoder = clip_encoder(subject.model, subject.preprocess, device=device)
        return FeatureModel(name, encoder, about, unit=True, clip=subject, built_from=built_from)
    behind = split_clip(subject.model.visual)
    encoder = ImageEncoder(behind.tower, behind.tower, subject.preprocess, output="features", device=device)
    return FeatureModel(name, encoder, about, unit=False, behind=behind, clip=subject, built_from=built_from)


def of_classifier(model: str, weights: str | None, output: Literal["tower", "joint"], *, device: str) -> FeatureModel:
    """Read a classifier, timm's, torchvision's or one of Domix's, before its last linear layer.

    Args:
        model: its name, or the folder of one of Domix's: domix.encoders.backbones.
        weights: of a named one.
        output: `tower`; `joint` is refused.
        device: of the model.

    Raises:
        ParameterError: there is no such model, or `joint` is asked for.
        DataError: weights are absent, damaged, or another model's.
    """
    opened = open_backbone(model, weights, output=output, device=device)
    about: dict[str, Any] = {"weights": sha256_file(opened.file), "model": model, "output": output}
    if model.startswith(TORCHVISION):
        about["torchvision"] = importlib.metadata.version("torchvision")
    path = opened.file.parent / CONFIG
    own = read_json(path) if weights is None and path.is_file() else {}
    classes = (own["classes"], own["first_class"]) if "encoder" in own else None
    split, built_from = opened.split, opened.built_from
    return FeatureModel(model, opened.encoder, about, unit=False, behind=split, classes=classes, built_from=built_from)
