"""A zero-shot classifier so small that fine-tuning it takes a second; the images are tests.tiny's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domix.data.loading.images import Images
from domix.encoders.preprocess import Preprocess, square
from domix.finetuning.wise_ft import Start, WiseFt, fine_tune
from domix.model.clip import build
from domix.model.zero_shot_classifier import zero_shot_classifier, zero_shot_head
from tests.tiny import CONFIG, TRAINER, WORDS, make_images

SCALE = 10.0
RECIPE = WiseFt(epochs=4, batch=6, lr=3e-3, warmup=5, weight_decay=1.0)  # 16 steps of 24 images; decay that shows


def prototypes(seed: int = 7, width: int = 16) -> Tensor:
    """Return 12 prototypes of lengths other than 1."""
    return torch.randn(len(WORDS), width, generator=torch.Generator().manual_seed(seed))


def make_start(preprocess: Preprocess | None = None, config: dict[str, Any] = CONFIG) -> Start:
    """Return the zero-shot classifier of a tiny model with random weights."""
    tower = build(config, seed=3).visual.eval()
    model = zero_shot_classifier(tower, zero_shot_head(prototypes(), SCALE), size=32)
    return Start(model, WORDS, preprocess or square(32), config, {"weights_sha256": "of a test"})


def make_labelled(count: int = 24) -> tuple[Images, Tensor]:
    """Return images of noise, and their labels: every class has as many."""
    return make_images(count), torch.arange(count) % len(WORDS)


def tune(folder: Path, recipe: WiseFt = RECIPE, **changed: Any) -> Path:
    """Fine-tune the tiny start into `folder`, and return the model's folder."""
    images, labels = make_labelled()
    given: dict[str, Any] = {"start": make_start(), "images": images, "labels": labels, "trainer": TRAINER} | changed
    fine_tune(recipe=recipe, out=folder / "model", resume=folder / "resume", **given)
    return folder / "model"
