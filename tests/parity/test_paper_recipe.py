"""The presets against the reference study's recipe of CLIP models, value by value, and its numbers of steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from open_clip_train.params import get_default_params
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from domix.model import clip
from domix.model.loss import contrastive_loss
from domix.settings.load import load
from domix.settings.params import Params
from domix.train import optim
from domix.train.clip_module import ClipTask
from domix.train.job import Job
from tests.golden import domainnet as golden
from tests.tiny import REPOSITORY

# ImageNet-Captions' training samples: the least and the most that the reference's numbers of steps allow.
CAPTIONED = (425517, 425569)
STEPS = {"clipart": 565, "infograph": 566, "painting": 580, "quickdraw": 646, "sketch": 578}  # an epoch
NATURAL_STEPS = 533
TOTALS = {"clipart": 18080, "infograph": 18112, "painting": 18560, "quickdraw": 20672, "sketch": 18496}


def preset(name: str) -> Params:
    return load((REPOSITORY / "presets" / f"{name}.yaml").read_text(encoding="utf-8"))


@dataclass
class Counted:
    """Images that can be counted alone."""

    count: int

    def __len__(self) -> int:
        return self.count

    sizes: Any = None

    def cut(self, rows: Tensor) -> Tensor:
        raise NotImplementedError


def job(name: str, count: int, **model: Any) -> Job:
    params = preset(name)
    chosen = {"name": params.model.name, "config": clip.load_config(params.model.name)} | model
    task = ClipTask(recipe=params.train, captions=[], **chosen)
    return Job(task=task, recipe=params.train, trainer=params.trainer, seed=0, images=Counted(count))


@pytest.mark.parametrize("captioned", CAPTIONED)
def test_trainings_have_the_references_steps(captioned: int) -> None:
    jobs = {domain: job("paper", captioned + size) for domain, size in golden.SIZE.items()}
    assert {domain: one.step_of(1) for domain, one in jobs.items()} == STEPS
    assert {domain: one.total for domain, one in jobs.items()} == TOTALS
    natural = job("paper", captioned + golden.NATURAL_ONLY)
    assert (natural.step_of(1), natural.total) == (NATURAL_STEPS, 17056)


def test_checkpoints_are_the_untrained_model_and_every_epochs_end() -> None:
    one = job("paper", CAPTIONED[0] + golden.SIZE["clipart"])
    assert one.checkpoints == {565 * epoch: epoch for epoch in range(33)}
    assert max(one.checkpoints) == one.total


def test_the_model_is_clips_rn50() -> None:
    params = preset("paper")
    model = clip.load_config(params.model.name)
    vision, text = model["vision_cfg"], model["text_cfg"]
    assert (vision["layers"], vision["width"], vision["image_size"]) == ([3, 4, 6, 3], 64, 224)
    assert (text["width"], text["heads"], text["layers"]) == (512, 8, 12)
    assert (text["context_length"], text["vocab_size"], model["embed_dim"]) == (77, 49408, 1024)
    tiny = clip.build(model | {"vision_cfg": vision | {"layers": [1, 1, 1, 1], "width": 4, "head_width": 4}}, seed=0)
    assert tiny.logit_scale.item() == pytest.approx(math.log(1 / 0.07))


def test_the_recipe_is_the_references() -> None:
    train, trainer = preset("paper").train, preset("paper").trainer
    assert (train.lr, train.warmup, train.weight_decay, train.clip_grad) == (1e-3, 500, 0.2, None)
    assert isinstance(train.warmup, int)  # steps, not a share
    assert (train.epochs, train.samples, train.drop_last) == (32, None, True)
    assert train.batch == trainer.processes * train.accumulate * 128
    assert (train.batch, train.accumulate, trainer.devices, trainer.nodes) == (1024, 2, 4, 1)
    assert (train.betas, train.eps) == (None, None)  # open_clip's
    assert optim.betas_and_eps("RN50", train.betas, train.eps) == ((0.9, 0.999), 1e-8)
    assert optim.betas_and_eps("ViT-S-32", train.betas, train.eps) == ((0.9, 0.98), 1e-6)
    assert optim.betas_and_eps("swin_tiny_patch4_window7_224", train.betas, train.eps) == ((0.9, 0.999), 1e-8)
    for name in ("RN50", "ViT-S-32", "swin_tiny_patch4_window7_224"):
        theirs = get_default_params(name)
        assert optim.betas_and_eps(name, None, None) == ((theirs["beta1"], theirs["beta2"]), theirs["eps"])


def test_the_augmentation_is_the_references() -> None:
    train, crop = preset("paper").train, RandomResizedCrop(224, scale=(0.9, 1.0))
    assert tuple(train.crop_scale) == tuple(crop.scale)
    assert tuple(train.crop_ratio) == tuple(crop.ratio)
    assert train.hflip == 0


@pytest.mark.parametrize("name", ["paper", "cc3m", "cc12m"])
def test_nothing_deviates_from_the_reference_unless_asked(name: str) -> None:
    train, trainer = preset(name).train, preset(name).trainer
    assert (trainer.precision, trainer.tf32, trainer.grad_checkpointing) == ("fp16", True, True)
    assert (train.bn_group, train.window, train.context) == (None, None, "full")
    assert (trainer.fused, trainer.channels_last, trainer.compile, trainer.deterministic) == (False,) * 4
    assert trainer.decode == "cpu"


@pytest.mark.parametrize("name", ["cc3m", "cc12m"])
def test_the_recipe_on_web_images_differs_as_the_references_does(name: str) -> None:
    web, paper = preset(name), preset("paper")
    assert web.base == [name]
    assert web.seeds == [0]
    assert set(web.mixtures) == {"natural-only", "cg-low", "cg-high", "leave-out-domain"}
    assert web.train.batch == web.trainer.processes * web.train.accumulate * 128 == 2048
    assert (web.trainer.devices, web.trainer.log_every, paper.trainer.log_every) == (8, 100, 50)
    assert (web.train.lr, web.train.warmup) == (5e-4, 2000)
    differing = {key for key in vars(web.train) if getattr(web.train, key) != getattr(paper.train, key)}
    assert differing == {"batch", "lr", "warmup"}


def test_the_references_other_encoders_have_its_sizes() -> None:
    vit, swin = (clip.load_config(name) for name in ("ViT-S-32", "swin_tiny_patch4_window7_224"))
    vision, text = vit["vision_cfg"], vit["text_cfg"]
    assert (vit["embed_dim"], vision["layers"], vision["width"], vision["patch_size"]) == (384, 12, 384, 32)
    assert (text["width"], text["heads"]) == (384, 6)
    assert (swin["embed_dim"], swin["vision_cfg"]["timm_proj"]) == (512, "linear")
    assert swin["vision_cfg"]["timm_model_name"] == "swin_tiny_patch4_window7_224"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "width"), [("ViT-S-32", 384), ("swin_tiny_patch4_window7_224", 512)])
def test_the_references_other_encoders_take_a_step(name: str, width: int) -> None:
    model: Any = clip.build(clip.load_config(name), seed=0).train()
    model.set_grad_checkpointing(True)
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    tokens = clip.tokenizer(clip.load_config(name))(["a bear", "a drawing of a kite"])
    image, text = model.encode_image(images), clip.encode_text(model, tokens)
    assert image.shape == text.shape == (2, width)
    contrastive_loss(image, text, model.logit_scale.exp()).backward()
    assert [n for n, weight in model.named_parameters() if weight.grad is None] == []
    assert all(bool(weight.grad.isfinite().all()) for weight in model.parameters())
