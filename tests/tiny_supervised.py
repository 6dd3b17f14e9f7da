"""A classifier, a recipe and labels so small that a training takes a second; the images are tests.tiny's."""

from __future__ import annotations

from typing import Any

import numpy as np

from domix.data.mixtures.labels import Labels
from domix.runtime.settings import replace
from domix.train.job import Job
from domix.train.settings import Supervised
from domix.train.supervised_module import SupervisedTask
from tests.tiny import CONFIG, TRAINER, WORDS, make_images

RESNET: dict[str, Any] = {"clip": CONFIG, "image_size": 32}
VIT: dict[str, Any] = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8}  # no batch norm
DROPPING: dict[str, Any] = {"clip": CONFIG | {"vision_cfg": VIT | {"patch_dropout": 0.5}}, "image_size": 32}
NORMLESS: dict[str, Any] = {"clip": CONFIG | {"vision_cfg": VIT}, "image_size": 32}
TIMM: dict[str, Any] = {"timm": "test_vit", "image_size": 160}
RECIPE = Supervised(
    mixtures=[],
    encoder="clip",
    samples=8 * 12,
    epochs=None,
    batch=8,
    accumulate=1,
    bn_group=None,
    window=None,
    drop_last=False,
    lr=0.05,
    momentum=0.9,
    milestones=[2, 4],
    factor=0.1,
    weight_decay=1e-4,
    clip_grad=None,
    crop_scale=[0.6, 1.0],
    crop_ratio=[0.75, 1.3333],
    hflip=0.5,
    checkpoints=[],
)


def make_job(count: int = 20, *, encoder: dict[str, Any] = RESNET, seed: int = 0, **changes: Any) -> Job:
    """Return a training of 12 steps on `count` samples; `changes` are parameters of the recipe or the trainer."""
    own = {key: value for key, value in changes.items() if hasattr(TRAINER, key)}
    recipe = replace(RECIPE, **{key: value for key, value in changes.items() if key not in own})
    trainer = replace(TRAINER, **own)
    task = SupervisedTask(
        name="tiny",
        encoder=encoder,
        recipe=recipe,
        labels=Labels(tuple(WORDS), 0, np.arange(count) % len(WORDS)),
        grad_checkpointing=trainer.grad_checkpointing,
    )
    images = make_images(count, ragged=True)
    return Job(task=task, recipe=recipe, trainer=trainer, seed=seed, images=images)
