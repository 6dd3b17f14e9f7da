"""Folders of Domix's classifiers, opened: supervised ones, and such as were fine-tuned.

What a classifier is built of stands in `encoder` of its config.json:

    clip, timm      of a supervised one: domix.model.classifier
    zero_shot       fine-tuned by WiSE-FT's recipe: domix.model.zero_shot_classifier
    tower           any model's tower under a new linear head, fine-tuned by DeiT's recipe

A tower is told by what it was cut from (`build_tower`): `{"timm": <name>, "outputs": n}`, `{"torchvision": <name>,
"outputs": n}`, `{"clip": <open_clip's configuration>}`, or `{"classifier": <such an encoder>, "outputs": n}`.

Shapes: B batch, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domix.encoders.split import split_classifier, split_clip, split_last_linear, split_timm
from domix.model import classifier, clip, zero_shot_classifier
from domix.model.checkpoint import CONFIG, WEIGHTS, load_weights
from domix.model.classifier import Classifier
from domix.model.zero_shot_classifier import ZeroShotClassifier
from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import read_json

TOWER = "tower"  # in `encoder`: what the tower was cut from; its features' number is `width`


class HeadedTower(Classifier):
    """A tower under a new linear head."""

    def __init__(self, tower: nn.Module, width: int, classes: int) -> None:
        """Draw the head from a truncated normal distribution of deviation 0.02; its bias is 0."""
        super().__init__()
        self.visual, self.head = tower, nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def features(self, images: Tensor) -> Tensor:
        """Return the tower's features."""
        return self.visual(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.visual(images))

    def no_weight_decay(self) -> set[str]:
        """Return the weights that do not decay beside biases and norms: those that timm's models name."""
        return {
            f"{path}.{name}"
            for path, module in self.named_modules()
            if path and callable(names := getattr(module, "no_weight_decay", None))
            for name in names()
        }


def build_tower(described: Mapping[str, Any]) -> nn.Module:
    """Build a tower as it is told above, images [B, 3, H, W] -> features [B, D], with random weights.

    Raises:
        DataError: the model cannot be cut.
        Exception: any other: the description is not one.
    """
    if "timm" in described:
        import timm

        return split_timm(timm.create_model(described["timm"], num_classes=described["outputs"])).tower
    if "torchvision" in described:
        from torchvision.models import get_model

        return split_last_linear(get_model(described["torchvision"], num_classes=described["outputs"])).tower
    if "clip" in described:
        return split_clip(clip.build(described["clip"], seed=0).visual).tower
    return split_classifier(build_classifier(described["classifier"], described["outputs"])).tower


def build_classifier(encoder: Mapping[str, Any], outputs: int) -> Classifier:
    """Build the classifier of an `encoder`, with random weights; torch's own random state is left as it was.

    Raises:
        DataError, Exception: as `build_tower`.
    """
    with torch.random.fork_rng(devices=[]):
        if TOWER in encoder:
            return HeadedTower(build_tower(encoder[TOWER]), encoder["width"], outputs)
        if zero_shot_classifier.KIND in encoder:
            described = encoder[zero_shot_classifier.KIND]
            head = nn.Linear(described["embed_dim"], outputs)
            return ZeroShotClassifier(clip.build(described, seed=0).visual, head)
        return classifier.build(dict(encoder), outputs=outputs, seed=0)


def load_any_classifier(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """Return the classifier of a model folder, ready to evaluate, and its config.json.

    Raises:
        DataError: a file is missing or damaged, holds no classifier, or weights and configuration do not fit together.
    """
    config = read_json(folder / CONFIG)
    missing = [name for name in ("encoder", "classes", "first_class") if name not in config]
    if missing:
        raise DataError(f"{folder / CONFIG} describes no classifier: it lacks {missing[0]}", remake=folder)
    try:
        model = build_classifier(config["encoder"], len(config["classes"]))
    except Exception as error:  # timm, torchvision and open_clip trust what they are told
        why = str(error) if isinstance(error, DomixError) else f"{type(error).__name__}: {error}"
        raise DataError(
            f"{folder / CONFIG} describes a classifier that cannot be built ({' '.join(why.split())})", remake=folder
        ) from error
    load_weights(model, folder / WEIGHTS)
    return model.eval(), config
