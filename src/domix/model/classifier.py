"""Supervised classifiers: the image tower of a CLIP model under a linear layer, or one of timm's classifiers whole.

An encoder is `{"clip": <open_clip's configuration>, "image_size": ...}` or `{"timm": <name>, "image_size": ...}`: JSON,
kept in a model's config.json, from which the model is built again. Nothing is ever downloaded.

Shapes: B batch, D features, K outputs.
"""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domix.model import clip
from domix.model.checkpoint import CONFIG, WEIGHTS, load_weights
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json
from domix.runtime.seeds import derive

OWN = "clip"  # the encoder that has the image tower of the CLIP model
# The reference study's names of encoders: a CLIP model, or one of timm's.
ALIASES = {
    "rn50-clip": {"clip": "RN50"},
    "vit-b-32-clip": {"clip": "ViT-B-32"},
    "vit-b-32-timm": {"timm": "vit_base_patch32_224"},
}


def load_encoder(name: str, model_name: str) -> dict[str, Any]:
    """Return the encoder called `name`: `clip` for the image tower of the CLIP model `model_name`, an alias, or timm's.

    Raises:
        ParameterError: there is no such encoder or model.
    """
    import timm

    known = {"clip": model_name} if name == OWN else ALIASES.get(name, {"timm": name})
    if "clip" in known:
        try:
            config = clip.load_config(known["clip"])
        except ParameterError as error:
            error.argument = "model_name"
            raise
        return {"clip": config, "image_size": clip.image_size(config)}
    models = timm.list_models()
    if known["timm"] not in models:
        names = [OWN, *ALIASES, *models]
        near = difflib.get_close_matches(name.lower(), names, n=3)
        hint = (
            f"did you mean {' or '.join(near)}?" if near else f"known are {OWN}, {', '.join(ALIASES)} and timm's models"
        )
        raise ParameterError(f"there is no encoder {name!r}; {hint}", argument="name")
    return known | {"image_size": _size_of_timm(known["timm"])}


def _size_of_timm(name: str) -> int:
    """Return the side in pixels of the images that one of timm's models is made for."""
    import timm

    described = timm.get_pretrained_cfg(name)
    shape = tuple(described.input_size) if described else ()
    if len(shape) != 3 or shape[0] != 3 or shape[1] != shape[2]:
        raise ParameterError(f"{name} reads images {shape}, not square ones of three channels", argument="name")
    return shape[1]


class Classifier(nn.Module, ABC):
    """Called with images [B, 3, H, W], gives logits [B, K]."""

    visual: nn.Module  # what sees; CLIP's image tower has this name, too

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """Return what the last linear layer reads, [B, D]."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""


class ClipClassifier(Classifier):
    """CLIP's image tower, ReLU, a linear layer."""

    def __init__(self, tower: nn.Module, head: nn.Linear) -> None:
        """Put `head` on `tower`."""
        super().__init__()
        self.visual, self.head = tower, head

    def features(self, images: Tensor) -> Tensor:
        """Return the tower's embedding after ReLU."""
        return self.visual(images).relu()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.head(self.features(images))


class TimmClassifier(Classifier):
    """One of timm's classifiers with its own head; its logits are left as they are."""

    visual: Any  # timm's models have these methods, of which their types say nothing

    def __init__(self, model: nn.Module) -> None:
        """Take timm's model whole."""
        super().__init__()
        self.visual = model

    def features(self, images: Tensor) -> Tensor:
        """Return what the head's linear layer reads."""
        return self.visual.forward_head(self.visual.forward_features(images), pre_logits=True)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        return self.visual(images)


def build(encoder: dict[str, Any], *, outputs: int, seed: int) -> Classifier:
    """Build a classifier with random weights drawn from `seed`; torch's own random state is left as it was.

    A CLIP tower's weights are those of `clip.build` with the same seed.

    Raises:
        ParameterError: open_clip or timm refuses to build it.
    """
    if "clip" in encoder:
        tower = clip.build(encoder["clip"], seed=seed).visual
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "head"))
            return ClipClassifier(tower, nn.Linear(encoder["clip"]["embed_dim"], outputs))
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "model"))
        try:
            return TimmClassifier(timm.create_model(encoder["timm"], pretrained=False, num_classes=outputs))
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise ParameterError(f"timm cannot build {encoder['timm']}: {error}", argument="encoder") from error


def load_classifier(folder: Path) -> tuple[Classifier, dict[str, Any]]:
    """Return the trained classifier of a model folder, ready to evaluate, and its config.json.

    Raises:
        DataError: a file is missing or damaged, holds no classifier, or weights and configuration do not fit together.
    """
    config = read_json(folder / CONFIG)
    if "encoder" not in config:
        raise DataError(f"{folder} holds a model that is no classifier: name a folder that train_supervised wrote")
    model = build(config["encoder"], outputs=len(config["classes"]), seed=0)
    load_weights(model, folder / WEIGHTS)
    return model.eval(), config
