"""CLIP's training step as a LightningModule: everything that decides the weights, and nothing else."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch import Tensor

from domix.data.loader import Batch, augmented
from domix.model.clip import encode_text
from domix.model.loss import contrastive_loss
from domix.runtime.seeds import derive
from domix.train import optim
from domix.train.resume import unpack_optimizer
from domix.train.schedule import WarmupCosine

if TYPE_CHECKING:
    from domix.config import Train
    from domix.model.clip import Clip

LARGEST_SCALE = math.log(100)  # the logit scale is kept in 0 .. ln 100, as in CLIP


class ClipModule(lightning.LightningModule):
    """One step of contrastive training, made from the step's batch, the weights and the seed alone."""

    def __init__(
        self,
        model: Clip,
        recipe: Train,
        *,
        name: str,
        size: int,
        seed: int,
        schedule: WarmupCosine,
        optimizer_state: dict[str, Tensor] | None = None,
    ) -> None:
        """Train `model`, called `name`, which reads pictures of `size`; `optimizer_state` comes from a saved state."""
        super().__init__()
        self.model, self.recipe, self.schedule = model, recipe, schedule
        self.name, self.size, self.seed = name, size, seed
        self._optimizer_state = optimizer_state or {}
        self._image: Any = model.encode_image
        self._text: Any = lambda tokens: encode_text(model, tokens)
        if recipe.compile:  # the towers alone: compiled, Lightning's own code would only be retraced
            self._image, self._text = torch.compile(self._image), torch.compile(self._text)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make AdamW, with the moments of the saved state where there is one."""
        recipe = self.recipe
        given = (recipe.betas[0], recipe.betas[1]) if recipe.betas else None
        betas, eps = optim.betas_and_eps(self.name, given, recipe.eps)
        made = optim.make_optimizer(self.model, lr=recipe.lr, weight_decay=recipe.weight_decay, betas=betas, eps=eps)
        unpack_optimizer(self._optimizer_state, self.model, made)
        self._optimizer_state = {}
        return made

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the step's learning rate, and seed whatever draws random numbers within the step (dropout)."""
        torch.manual_seed(derive(self.seed, "step", batch.step, self.global_rank))
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.schedule(batch.step)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment the pictures where they are trained on, outside of any lower precision."""
        pictures = augmented(batch, self.size)
        if self.recipe.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        return batch._replace(pictures=pictures)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        image, text = self._image(batch.pictures), self._text(batch.tokens)
        with torch.autocast(self.device.type, enabled=False):
            return contrastive_loss(
                image,
                text,
                self.model.logit_scale.exp(),
                self.model.logit_bias,
                rank=self.global_rank,
                world_size=self.trainer.world_size,
            )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient, if asked to; Lightning 2.6.6 itself refuses to with a fused optimiser."""
        if self.recipe.clip_grad is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_grad)

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Take the step, then keep the logit scale in its range."""
        super().optimizer_step(*arguments, **named)
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, LARGEST_SCALE)
