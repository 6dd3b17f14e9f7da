"""Whole trainings against open_clip's own trainer: its training loop, loss, optimiser set-up and schedule.

Both start from the same weights and see the same augmented images and captions. Compared are the loss of every step
and, at the end, every weight and buffer: the same to the last bit where both compute the same operations in the same
order, else within what rounding explains.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip import ClipLoss, get_tokenizer
from open_clip_train.scheduler import cosine_lr
from open_clip_train.train import train_one_epoch
from torch import Tensor

from domix.data.loading.loader import augmented
from domix.model.checkpoint import load_tensors
from domix.runtime.tracking.tracker import NullTracker
from domix.train import optim
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.schedule import warmup_steps
from tests.closeness import assert_close
from tests.tiny import CONFIG, make_job

RESNET = CONFIG
VIT = CONFIG | {"vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}}
TIMM = CONFIG | {"vision_cfg": {"image_size": 32, "timm_model_name": "resnet10t", "timm_pool": "avg"}}
SIGLIP = VIT | {"init_logit_bias": -10.0}
PLAIN: dict[str, Any] = {"log_every": 1, "context": "full", "fused": False, "channels_last": False}
THEIR_PRECISION = {"32": "fp32", "bf16": "amp_bf16", "fp16": "amp"}


class Loader:
    """What open_clip's training loop asks of its data."""

    def __init__(self, parts: list[tuple[Tensor, Tensor]]) -> None:
        self.parts, self.num_batches, self.num_samples = parts, len(parts), sum(len(part[0]) for part in parts)
        self.dataloader = self

    def set_epoch(self, epoch: int) -> None:
        assert epoch == 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.parts)


class Losses:
    """Takes the place of TensorBoard's writer."""

    def __init__(self) -> None:
        self.by_step: dict[int, float] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if name == "train/loss":
            self.by_step[step] = value


def their_optimizer(model: torch.nn.Module, job: Job) -> torch.optim.AdamW:
    """Make the optimiser as open_clip_train.main does, where it is no function of its own."""

    def exclude(n: str, p: Tensor) -> bool:
        return p.ndim < 2 or "bn" in n or "ln" in n or "bias" in n or "logit_scale" in n

    named = list(model.named_parameters())
    betas, eps = optim.betas_and_eps(job.task.name, None, None)
    return torch.optim.AdamW(
        [
            {"params": [p for n, p in named if exclude(n, p) and p.requires_grad], "weight_decay": 0.0},
            {"params": [p for n, p in named if not exclude(n, p) and p.requires_grad], "weight_decay": 0.2},
        ],
        lr=job.recipe.lr,
        betas=betas,
        eps=eps,
    )


def their_parts(job: Job, captions: list[str]) -> list[tuple[Tensor, Tensor]]:
    """Return what open_clip's loader would give: a batch's part at a time, captions by open_clip's own tokenizer."""
    tokens = get_tokenizer("RN50", context_length=CONFIG["text_cfg"]["context_length"])(captions)
    parts = []
    for batch in job.batches(tokens, start=0):
        whole = augmented(batch, job.task.size).contiguous()  # as a loader stacks images
        count = job.recipe.accumulate
        parts += zip(whole.chunk(count), batch.targets.chunk(count), strict=True)
    return parts


def theirs(job: Job) -> tuple[dict[str, Tensor], list[float]]:
    """Train with open_clip; return weights and buffers, and the loss of each step."""
    torch.manual_seed(0)
    model: Any = job.task.build(job.seed)
    model.output_dict = True
    optimizer = their_optimizer(model, job)
    parts = their_parts(job, list(job.task.captions))  # ty: ignore[missing-attribute]
    recipe = job.recipe
    schedule = cosine_lr(optimizer, recipe.lr, warmup_steps(recipe.warmup, job.total), job.total)  # ty: ignore
    scaler = torch.amp.GradScaler(device="cpu") if job.trainer.precision == "fp16" else None
    losses = Losses()
    arguments = Namespace(
        device="cpu",
        precision=THEIR_PRECISION[job.trainer.precision],
        accum_freq=recipe.accumulate,
        grad_clip_norm=recipe.clip_grad,
        batch_size=recipe.batch // recipe.accumulate,
        rank=0,
        local_rank=0,
        world_size=1,
        log_local=False,
        log_every_n_steps=1,
        skip_scheduler=False,
        distill=False,
        horovod=False,
        wandb=False,
    )
    loss = ClipLoss(local_loss=True, gather_with_grad=True)
    train_one_epoch(
        model, {"train": Loader(parts)}, loss, 0, optimizer, scaler, schedule, None, arguments, tb_writer=losses
    )
    return model.state_dict(), [losses.by_step[step] for step in range(job.total)]


def ours(job: Job, folder: Path) -> tuple[dict[str, Tensor], list[float]]:
    """Train with Domix; return the same."""
    losses: list[float] = []

    class Listener(NullTracker):
        def metrics(self, values: Mapping[str, float], step: int) -> None:
            losses.append(values["loss"])

    fit(job, out=folder / "model", resume=folder / "resume", about={}, open_tracker=Listener, progress=False)
    return load_tensors(folder / "model" / "model.safetensors"), losses


def both(folder: Path, config: dict[str, Any], changes: dict[str, Any]) -> tuple[Job, Any, Any]:
    """Train 12 steps with both; return the training, and the results of `ours` and `theirs`."""
    job = make_job(config=config, **PLAIN | changes)
    mine, their = ours(job, folder), theirs(job)
    assert len(mine[1]) == len(their[1]) == job.total == 12
    assert mine[0].keys() == their[0].keys()
    return job, mine, their


SAME = {
    "resnet": (RESNET, {}),
    "vit": (VIT, {"grad_checkpointing": True}),
    "timm": (TIMM, {"grad_checkpointing": True}),
    "text tower of its own": (VIT | {"custom_text": True}, {"accumulate": 2}),
    "clipped": (RESNET, {"clip_grad": 0.05}),
    "whole epochs": (RESNET, {"drop_last": True}),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_operations_give_the_same_training_to_the_last_bit(tmp_path: Path, case: str) -> None:
    _, (weights, losses), (their_weights, their_losses) = both(tmp_path, *SAME[case])
    assert losses == their_losses
    assert [name for name in weights if not torch.equal(weights[name], their_weights[name])] == []


ROUNDED = {
    "accumulation": (RESNET, {"accumulate": 2}),
    "bias of the logits": (SIGLIP, {"accumulate": 4}),
    "trimmed captions": (RESNET, {"context": "trim"}),
    "fast": (RESNET, {"context": "trim", "fused": True, "channels_last": True}),
}


@pytest.mark.parametrize("case", ROUNDED)
def test_the_same_mathematics_give_the_same_training_up_to_rounding(tmp_path: Path, case: str) -> None:
    job, (weights, losses), (their_weights, their_losses) = both(tmp_path, *ROUNDED[case])
    assert losses == pytest.approx(their_losses, rel=1e-5)
    assert_close(weights, their_weights, job.task.build(job.seed).state_dict())


LOWER = {
    "bf16": {"precision": "bf16", "accumulate": 2},
    "fp16": {"precision": "fp16"},
    "fp16, all at once": {"precision": "fp16", "accumulate": 2, "clip_grad": 0.5, "fused": True, "context": "trim"},
}


@pytest.mark.parametrize("case", LOWER)
def test_lower_precisions_go_the_same_way(tmp_path: Path, case: str) -> None:
    """Ours computes the loss in float32, open_clip in the lower precision: equality would be chance."""
    job, (weights, losses), (their_weights, their_losses) = both(tmp_path, RESNET, LOWER[case])
    assert losses == pytest.approx(their_losses, rel=0.1 if "bf16" in case else 0.01)
    untrained = job.task.build(job.seed).state_dict()
    floats = [name for name, tensor in weights.items() if tensor.is_floating_point()]
    way, their_way = (
        torch.cat([(given[name] - untrained[name]).double().flatten() for name in floats])
        for given in (weights, their_weights)
    )
    assert (way - their_way).norm() < 0.1 * their_way.norm()
