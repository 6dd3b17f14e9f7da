"""CLIP's training: captions as targets, the contrastive loss over the whole batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from domix.data.loading.loader import Batch
from domix.model import clip
from domix.model.loss import contrastive_loss
from domix.model.tokens import tokenise
from domix.runtime.errors import ParameterError
from domix.train import optim
from domix.train.schedule import WarmupCosine, warmup_steps
from domix.train.step_module import StepModule
from domix.train.used_tokens import UsedTokens, train_used_tokens

if TYPE_CHECKING:
    from domix.train.job import Job
    from domix.train.machine import Machine
    from domix.train.settings import Train

LARGEST_SCALE = math.log(100)  # the logit scale is kept in 0 .. ln 100, as in CLIP


@dataclass(frozen=True, kw_only=True)
class ClipTask:
    """Images find their captions."""

    name: str
    config: dict[str, Any]  # open_clip's configuration of the model
    recipe: Train
    captions: Sequence[str]
    grad_checkpointing: bool = False
    section: str = "train"

    @property
    def size(self) -> int:
        """Return the side in pixels of the images that the model reads."""
        return clip.image_size(self.config)

    def build(self, seed: int) -> clip.Clip:
        """Build the model, untrained."""
        model = clip.build(self.config, seed=seed)
        model.set_grad_checkpointing(self.grad_checkpointing)
        return model

    def targets(self, model: Any) -> Tensor:
        """Return the captions' tokens int32 [N, L].

        Raises:
            ParameterError: captions are to be cut, but the model's text tower reads no less than its whole context.
        """
        context = self.recipe.context
        config = self.config
        if not isinstance(context, str):
            own = clip.tokenizer(config).context_length or 0
            if context < own and not clip.reads_short(model):
                raise ParameterError(
                    f"train.context is {context}, but the text tower of {self.name} reads its whole context of {own}:"
                    " set it to full"
                )
            config = config | {"text_cfg": config["text_cfg"] | {"context_length": min(context, own)}}
        tokens = tokenise(clip.tokenizer(config), self.captions).int()
        return tokens if context == "full" else clip.shortest_context(model, tokens)

    def schedule(self, job: Job) -> WarmupCosine:
        """Return the learning rate by step."""
        return WarmupCosine(self.recipe.lr, warmup_steps(self.recipe.warmup, job.total), job.total)

    def module(self, job: Job, model: Any) -> ClipModule:
        """Return the training step."""
        return ClipModule(job, model, self)

    def describe(self) -> dict[str, Any]:
        """Return what config.json says about the model."""
        return {"name": self.name, "model": self.config}


class ClipModule(StepModule):
    """One step of contrastive training."""

    model: Any  # a Clip; the attributes of a module have no types

    def __init__(self, job: Job, model: clip.Clip, task: ClipTask) -> None:
        """Train `model` as `job` says."""
        super().__init__(job, model)
        self.task = task
        self._image = self.tower(model.encode_image)
        self._text = self.tower(lambda tokens: clip.encode_text(model, tokens))
        self._used_tokens: list[UsedTokens] = []

    def prepare(self, targets: Tensor, machine: Machine) -> None:
        """Train the rows of the token embedding that captions use: a GPU is done with the others in no time."""
        if machine.accelerator == "cpu":
            self._used_tokens = train_used_tokens(self.model, targets)

    def make_optimizer(self) -> torch.optim.AdamW:
        """Make AdamW as open_clip does."""
        recipe = self.task.recipe
        given = (recipe.betas[0], recipe.betas[1]) if recipe.betas else None
        betas, eps = optim.betas_and_eps(self.task.name, given, recipe.eps)
        return optim.make_adamw(
            self.model,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            betas=betas,
            eps=eps,
            fused=self.job.trainer.fused,
        )

    def notes(self) -> dict[str, float]:
        """Return the factor of the cosines."""
        return {"logit_scale": self.model.logit_scale.exp().item()}

    def step(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Return the contrastive loss of the whole batch; see StepModule."""
        if len(parts) == 1:
            loss = self._loss(*self._features(parts[0], 0), self.model.logit_scale.exp(), self.model.logit_bias)
            return {"loss": loss, "value": loss.detach()}
        return self._step_in_parts(parts)

    def _features(self, part: Batch, number: int) -> tuple[Tensor, Tensor]:
        self.seed_part(part, number)
        return self._image(part.images), self._text(part.targets)

    def _loss(self, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        with torch.autocast(self.device.type, enabled=False):
            rank, world_size = self.global_rank, self.trainer.world_size
            return contrastive_loss(image, text, scale, bias, rank=rank, world_size=world_size)

    def _step_in_parts(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Compute the features of all parts without gradients, the loss's gradient at them, then part by part the rest.

        The gradients are those of the whole batch at once, from activations of one part at a time (Gao et al. 2021,
        "Scaling deep contrastive learning batch size under memory limited setup"), as open_clip's accum-freq computes
        them; but the gradient of the logit scale counts once, which open_clip adds up once a part.
        """
        with torch.no_grad():
            pairs = [self._features(part, number) for number, part in enumerate(parts)]
        image, text = (torch.cat(features).float().requires_grad_() for features in zip(*pairs, strict=True))
        scale, bias = self.model.logit_scale.exp(), self.model.logit_bias
        value = self._loss(image, text, scale, bias)
        shared = [scale] if bias is None else [scale, bias]
        with torch.autocast(self.device.type, enabled=False):  # which would round the loss's gradient, too
            at_image, at_text, *at_shared = torch.autograd.grad(value, [image, text, *shared])
        loss = torch.zeros(())
        gradients = zip(at_image.chunk(len(parts)), at_text.chunk(len(parts)), strict=True)
        for number, (part, (of_image, of_text)) in enumerate(zip(parts, gradients, strict=True)):
            found_image, found_text = self._features(part, number)
            loss = (found_image.float() * of_image).sum() + (found_text.float() * of_text).sum()
            if number < len(parts) - 1:
                self.backward_part(loss)
        # With the last part, as several processes wait for the gradient of every weight there.
        loss = loss + sum((one * gradient).sum() for one, gradient in zip(shared, at_shared, strict=True))
        return {"loss": loss, "value": value.detach()}

    def optimizer_step(self, *arguments: Any, **named: Any) -> None:
        """Take the step, then keep the logit scale in its range."""
        before = [self._steps_of(each) for each in self._used_tokens]
        super().optimizer_step(*arguments, **named)
        for each, steps in zip(self._used_tokens, before, strict=True):
            if self._steps_of(each) > steps:  # the scaler of fp16 gradients leaves steps out
                each.decay(self._decay_of(each))
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, LARGEST_SCALE)

    def _steps_of(self, embedding: UsedTokens) -> float:
        state = self.trainer.optimizers[0].state.get(embedding.weight, {})
        return float(state["step"]) if state else 0.0

    def _decay_of(self, embedding: UsedTokens) -> float:
        """Return AdamW's factor of a weight whose gradient is zero: 1 - learning rate times weight decay."""
        for group in self.trainer.optimizers[0].param_groups:
            if any(weight is embedding.weight for weight in group["params"]):
                return 1 - group["lr"] * group["weight_decay"]
        return 1.0
