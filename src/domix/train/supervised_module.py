"""Classifiers' training: each image's class as target, cross-entropy, SGD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from domix.data.loading.loader import Batch
from domix.model import classifier as supervised
from domix.runtime.errors import ParameterError
from domix.train import optim
from domix.train.schedule import Milestones
from domix.train.step_module import StepModule

if TYPE_CHECKING:
    from domix.data.mixtures.labels import Labels
    from domix.train.job import Job
    from domix.train.settings import Supervised


@dataclass(frozen=True, kw_only=True)
class SupervisedTask:
    """Images find their class."""

    name: str
    encoder: dict[str, Any]  # see domix.model.classifier
    recipe: Supervised
    labels: Labels
    grad_checkpointing: bool = False
    section: str = "supervised"

    @property
    def size(self) -> int:
        """Return the side in pixels of the images that the model reads."""
        return self.encoder["image_size"]

    def build(self, seed: int) -> supervised.Classifier:
        """Build the model, untrained.

        Raises:
            ParameterError: the encoder cannot be built, or cannot compute activations again.
        """
        model = supervised.build(self.encoder, outputs=len(self.labels.classes), seed=seed)
        if self.grad_checkpointing:
            tower: Any = model.visual
            try:
                tower.set_grad_checkpointing(True)
            except (AttributeError, AssertionError) as error:
                raise ParameterError(f"trainer.grad_checkpointing is true, which {self.name} cannot do") from error
        return model

    def targets(self, model: Any) -> Tensor:
        """Return each sample's output, int64 [N]."""
        return torch.from_numpy(self.labels.samples)

    def schedule(self, job: Job) -> Milestones:
        """Return the learning rate by step."""
        steps = tuple(job.step_of(epoch) for epoch in self.recipe.milestones)
        return Milestones(self.recipe.lr, steps, self.recipe.factor)

    def module(self, job: Job, model: Any) -> SupervisedModule:
        """Return the training step."""
        return SupervisedModule(job, model, self)

    def describe(self) -> dict[str, Any]:
        """Return what config.json says about the model.

        `classes` names the outputs (null: one that no sample belongs to). Those of the multi-domain source's classes
        follow one another from `first_class` on, in label order.
        """
        classes, first = list(self.labels.classes), self.labels.first
        return {"name": self.name, "encoder": self.encoder, "classes": classes, "first_class": first}


class SupervisedModule(StepModule):
    """One step of supervised training."""

    def __init__(self, job: Job, model: supervised.Classifier, task: SupervisedTask) -> None:
        """Train `model` as `job` says."""
        super().__init__(job, model)
        self.task = task
        self._logits = self.tower(model.forward)

    def make_optimizer(self) -> torch.optim.SGD:
        """Make SGD with Nesterov momentum.

        It is not fused where gradients are scaled: if the first of them overflow, fused SGD (torch 2.15) skips the
        step, but goes on with a momentum that nobody has set.
        """
        recipe, trainer = self.task.recipe, self.job.trainer
        return optim.make_sgd(
            self.model,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
            fused=trainer.fused and trainer.precision != "fp16",
        )

    def notes(self) -> dict[str, float]:
        """Return nothing: each step tells its accuracy."""
        return {}

    def step(self, parts: Sequence[Batch]) -> dict[str, Tensor]:
        """Return the mean cross-entropy and accuracy of the parts of a batch; see StepModule."""
        loss, values, accuracies = torch.zeros(()), [], []
        for number, part in enumerate(parts):
            self.seed_part(part, number)
            logits = self._logits(part.images)
            with torch.autocast(self.device.type, enabled=False):
                loss = F.cross_entropy(logits.float(), part.targets) / len(parts)
            values.append(loss.detach())
            accuracies.append((logits.argmax(dim=1) == part.targets).float().mean())
            if number < len(parts) - 1:
                self.backward_part(loss)
        return {"loss": loss, "value": torch.stack(values).sum(), "accuracy": torch.stack(accuracies).mean()}
