"""What the training step of every task has: learning rate, random numbers, augmentation, gradients in parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch import Tensor, nn

from domix.data.loading.loader import Batch, augmented
from domix.model.batchnorm import group_batchnorm
from domix.runtime.seeds import derive
from domix.train.resume import unpack_optimizer

if TYPE_CHECKING:
    from domix.train.job import Job
    from domix.train.machine import Machine


class StepModule(lightning.LightningModule, ABC):
    """One step of training, made from the step's batch, the weights and the seed alone.

    `training_step` returns `loss`, from which Lightning computes gradients, and `value`, the loss of the whole batch,
    which is told to people; more to tell may follow, averaged like `value` over processes and the steps of a row. Loss
    and value differ where a batch is computed in parts: all parts but the last are then done with within
    `training_step`, and their gradients wait in the weights.
    """

    def __init__(self, job: Job, model: nn.Module) -> None:
        """Train `model` as `job` says."""
        super().__init__()
        self.model, self.job, self.schedule = model, job, job.task.schedule(job)
        self._optimizer_state: dict[str, Tensor] = {}
        if job.recipe.bn_group is not None:
            group_batchnorm(model, job.recipe.bn_group)
        if job.trainer.channels_last:
            model.to(memory_format=torch.channels_last)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Start from the optimiser's moments in a saved state."""
        self._optimizer_state = tensors

    def prepare(self, targets: Tensor, machine: Machine) -> None:
        """Fit the model to what it is trained towards on a machine, before its optimiser is made."""

    @abstractmethod
    def make_optimizer(self) -> torch.optim.Optimizer:
        """Make the optimiser of the model's weights."""

    @abstractmethod
    def notes(self) -> dict[str, float]:
        """Return what a row of the log says of the weights: always the same keys."""

    @abstractmethod
    def step(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Return `loss`, `value` and more of a batch's parts; the gradients of all but the last are left behind."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimiser, with the moments of the saved state where there is one."""
        made = self.make_optimizer()
        unpack_optimizer(self._optimizer_state, self.model, made)
        self._optimizer_state = {}
        return made

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the step's learning rate and forget the last one's gradients."""
        optimizer = self.trainer.optimizers[0]
        for group in optimizer.param_groups:
            group["lr"] = self.schedule(batch.step)
        optimizer.zero_grad(set_to_none=True)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: torch.optim.Optimizer) -> None:
        """Leave the gradients: Lightning would drop those of earlier parts, between them and the last."""

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment the images where they are trained on, outside of any lower precision."""
        images = augmented(batch, self.job.task.size)
        layout = torch.channels_last if self.job.trainer.channels_last else torch.contiguous_format
        images = images.contiguous(memory_format=layout)
        return batch._replace(images=images)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Return the loss of one batch."""
        return self.step(batch.parts(self.job.recipe.accumulate))

    def seed_part(self, part: Batch, number: int) -> None:
        """Seed whatever draws random numbers within a part of a step (dropout): the same each time it is computed."""
        seed = derive(self.job.seed, "step", part.step, self.global_rank, number)
        # Not torch.manual_seed, which formats a stack trace each time for every kind of device that is not in use.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def backward_part(self, loss: Tensor) -> None:
        """Add the gradients of a part of a batch to the weights; not yet averaged over processes."""
        with torch.autocast(self.device.type, enabled=False):  # it is for forward passes; Lightning's own end before
            self.trainer.strategy.backward(loss, None)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient, if asked to; Lightning 2.6.6 itself refuses to with a fused optimiser."""
        if self.job.recipe.clip_grad is None:
            return
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            scaler.unscale_(optimizer)  # which Lightning leaves to fused optimisers' own step
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.job.recipe.clip_grad)

    def tower(self, function: Any) -> Any:
        """Return a tower of the model, compiled if asked to: alone, as Lightning's own code would only be retraced."""
        return torch.compile(function) if self.job.trainer.compile else function
