"""A training as data: everything that its weights depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from domix.data.loading.loader import Augmentation, Batches, Order
from domix.runtime.errors import ParameterError
from domix.train.schedule import Schedule, step_of_epoch, total_steps

if TYPE_CHECKING:
    from torch import Tensor, nn

    from domix.data.loading.images import ImageSet
    from domix.train.settings import Recipe, Trainer


class Task(Protocol):
    """What is learned: the model, its targets and its loss."""

    @property
    def name(self) -> str:
        """Return the model's name."""
        ...

    @property
    def section(self) -> str:
        """Return the recipe's section in params.yaml, for messages."""
        ...

    @property
    def size(self) -> int:
        """Return the side in pixels of the images that the model reads."""
        ...

    def build(self, seed: int) -> nn.Module:
        """Build the model, untrained."""
        ...

    def targets(self, model: nn.Module) -> Tensor:
        """Return what each image is trained towards, [N] or [N, L]."""
        ...

    def schedule(self, job: Job) -> Schedule:
        """Return the learning rate by step."""
        ...

    def module(self, job: Job, model: nn.Module) -> Any:
        """Return the training step, a StepModule."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return what a model folder's config.json says about the model: JSON."""
        ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training: everything that its weights depend on, and where its images lie."""

    task: Task
    recipe: Recipe
    trainer: Trainer
    seed: int
    images: ImageSet
    weights: Sequence[float] | None = None  # how often each sample is drawn, in proportion; None: all alike
    shards: Sequence[int] | None = None  # the shard of each sample, numbered from 0; needed with recipe.window

    def __post_init__(self) -> None:
        """Refuse a batch that would hold a sample twice."""
        if self.recipe.batch > len(self.images):
            section = self.task.section
            raise ParameterError(
                f"{section}.batch is {self.recipe.batch}, more than the mixture's {len(self.images)} samples: lower it"
            )

    @property
    def length(self) -> int:
        """Samples an epoch has."""
        count, recipe = len(self.images), self.recipe
        return count - count % recipe.batch if recipe.drop_last else count

    @property
    def total(self) -> int:
        """Optimiser steps of the whole training."""
        recipe = self.recipe
        return total_steps(
            self.length, batch=recipe.batch, samples=recipe.samples, epochs=recipe.epochs, section=self.task.section
        )

    def step_of(self, epoch: int) -> int:
        """Return after how many steps an epoch has ended."""
        return step_of_epoch(epoch, count=self.length, batch=self.recipe.batch)

    @property
    def checkpoints(self) -> dict[int, int]:
        """The epochs whose weights are asked for, by the step after which they are reached.

        Raises:
            ParameterError: the training ends before an epoch that is asked for.
        """
        steps = {}
        for epoch in self.recipe.checkpoints:
            step = self.step_of(epoch)
            if step > self.total:
                reached = self.total * self.recipe.batch / self.length
                raise ParameterError(
                    f"{self.task.section}.checkpoints asks for epoch {epoch}, but training ends after {reached:.1f}"
                    " epochs"
                )
            steps[step] = epoch
        return steps

    def batches(self, targets: Tensor, *, start: int, rank: int = 0, world_size: int = 1) -> Batches:
        """Return the batches of the steps from `start` on, this process's share of each."""
        recipe = self.recipe
        return Batches(
            self.images,
            targets,
            Augmentation(
                side=self.task.size,
                scale=(recipe.crop_scale[0], recipe.crop_scale[1]),
                ratio=(recipe.crop_ratio[0], recipe.crop_ratio[1]),
                hflip=recipe.hflip,
            ),
            Order(
                count=len(self.images),
                seed=self.seed,
                weights=None if self.weights is None else torch.tensor(self.weights, dtype=torch.float64),
                shards=None if self.shards is None else torch.tensor(self.shards),
                window=recipe.window,
            ),
            batch=recipe.batch,
            total=self.total,
            start=start,
            rank=rank,
            world_size=world_size,
            drop_last=recipe.drop_last,
        )
