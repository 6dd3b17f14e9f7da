"""The parameters of trainings: what is learned from what (`train`, `supervised`), how the machine does it (`trainer`).

Recipes decide the weights. Of the trainer's keys, those in `DECIDING` may change them in their last digits, the others
never do.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, Self

from pydantic import Field, model_validator

from domix.runtime.settings import Settings, require


class Recipe(Settings):
    """What every training has, whatever it learns."""

    samples: int | None = Field(
        gt=0, description="samples seen in all, the same for every mixture; null: `epochs` decides"
    )
    epochs: int | None = Field(gt=0, description="passes over the mixture; null: `samples` decides")
    batch: int = Field(gt=0, description="samples an optimiser step, over all devices")
    accumulate: int = Field(
        gt=0, description="parts in which each device computes its share of a batch: less memory, more time"
    )
    bn_group: int | None = Field(
        gt=0,
        description=(
            "images over which batch norm computes its statistics; null: a device's part of a batch (batch / devices"
            " / accumulate)"
        ),
    )
    window: int | None = Field(
        gt=0,
        description=(
            "shards whose samples are shuffled together, in windows of so many; null: all. Streaming needs a number"
        ),
    )
    drop_last: bool = Field(
        description=(
            "end each epoch with its last whole batch, as open_clip does; else batches straddle epochs and none is"
            " dropped"
        ),
    )
    lr: float = Field(gt=0, description="peak learning rate")
    weight_decay: float = Field(description="weight decay; biases, norms and the logit scale are exempt")
    clip_grad: float | None = Field(gt=0, description="largest norm of the gradient; null: no clipping")
    crop_scale: list[float] = Field(description="random resized crop: least and greatest share of the image's area")
    crop_ratio: list[float] = Field(description="random resized crop: least and greatest aspect ratio")
    hflip: float = Field(ge=0, le=1, description="probability that an image is flipped")
    checkpoints: list[int] = Field(description="epochs after which weights are kept (0 = untrained)")

    @model_validator(mode="after")
    def _check_recipe(self) -> Self:
        if self.epochs is None:
            require(self.samples is not None, "samples must be a number where epochs is null")
        else:
            require(self.samples is None, f"epochs must be null where samples is a number, not {self.epochs}")
        for name, top in (("crop_scale", 1.0), ("crop_ratio", float("inf"))):
            pair = getattr(self, name)
            good = len(pair) == 2 and 0 < pair[0] <= pair[1] <= top
            require(good, f"{name} must be two rising positive numbers, not {pair}")
        for epoch in self.checkpoints:
            require(epoch >= 0, f"checkpoints must not be negative, but holds {epoch}")
        return self

    def check_split(self, section: str, devices: int) -> None:
        """Check that a batch can be split over so many devices in all.

        Raises:
            ParameterError: it cannot.
        """
        parts = devices * self.accumulate
        require(
            self.batch % parts == 0,
            f"{section}.batch {self.batch} must divide by {parts}: trainer.devices x trainer.nodes = {devices}, times"
            f" {section}.accumulate {self.accumulate}",
        )
        part = self.batch // parts
        require(
            self.bn_group is None or part % self.bn_group == 0,
            f"{section}.bn_group {self.bn_group} must divide {part}, a device's part of a batch"
            f" ({section}.batch / devices / {section}.accumulate)",
        )


class Train(Recipe):
    """The recipe of CLIP models."""

    warmup: int | float = Field(ge=0, description="linear warm-up: optimiser steps, or a share of all steps if below 1")
    betas: list[float] | None = Field(
        description="AdamW betas; null: open_clip's (0.9, 0.98 for names with 'vit', else 0.9, 0.999)"
    )
    eps: float | None = Field(description="AdamW epsilon; null: open_clip's (1e-6 for names with 'vit', else 1e-8)")
    context: int | Literal["trim", "full"] = Field(
        description=(
            "tokens of a caption that the text tower reads: full: the model's whole context; trim: as many as the"
            " longest caption has, which gives the same numbers sooner; or a number, after which captions are cut"
        ),
    )

    @model_validator(mode="after")
    def _check_train(self) -> Self:
        require(self.betas is None or len(self.betas) == 2, f"betas must be two numbers, not {self.betas}")
        good = isinstance(self.context, str) or self.context >= 3
        require(good, f"context must be trim, full or at least 3 tokens, not {self.context}")
        return self


class Supervised(Recipe):
    """The recipe of supervised classifiers, the counterpart of CLIP models: images and classes, no captions."""

    mixtures: list[str] = Field(
        description="those of the mixtures on which classifiers are trained, too, with each of the seeds"
    )
    encoder: str = Field(
        description=(
            "clip: the image tower of model.name, ReLU, a linear layer; or the name of one of timm's classifiers"
        ),
    )
    momentum: float = Field(ge=0, lt=1, description="SGD's Nesterov momentum")
    milestones: list[int] = Field(description="epochs after which the learning rate is multiplied by `factor`")
    factor: float = Field(gt=0, le=1, description="of the learning rate, at each milestone")

    @model_validator(mode="after")
    def _check_supervised(self) -> Self:
        require(
            self.milestones == sorted(set(self.milestones)) and all(m > 0 for m in self.milestones),
            f"milestones must be rising positive epochs, not {self.milestones}",
        )
        return self


class Validation(Settings):
    """Measurements on test images while CLIP trains: curves to watch, no part of the results."""

    every: int | None = Field(gt=0, description="optimiser steps between measurements; null: none")
    images: int = Field(ge=2, description="test images of cells that the mixture shows, and as many of held-out ones")
    template: str = Field(description="prompt of the zero-shot classifier, {} stands for the class")

    @model_validator(mode="after")
    def _check(self) -> Self:
        require("{}" in self.template, f"template must hold {{}}, not {self.template!r}")
        return self


class Trainer(Settings):
    """Where and how trainings compute."""

    accelerator: Literal["auto", "cpu", "gpu"] = Field(description="where to train")
    devices: int = Field(gt=0, description="devices a training uses on each machine")
    nodes: int = Field(gt=0, description="machines a training uses")
    strategy: Literal["auto", "ddp"] = Field(
        description="how several devices work together: ddp, each with the whole model"
    )
    precision: Literal["auto", "32", "bf16", "fp16"] = Field(
        description="auto: bf16 where the device computes it natively, else 32; fp16 scales its gradients"
    )
    tf32: bool = Field(description="let GPUs multiply float32 matrices with 10 bits of mantissa: faster")
    channels_last: bool = Field(description="lay tensors out as channels-last: faster convolutions on CPUs and GPUs")
    compile: bool = Field(description="torch.compile the towers: faster steps after a minute of compiling")
    fused: bool = Field(description="the optimiser's fused step: one pass over the weights")
    grad_checkpointing: bool = Field(
        description="compute activations again in the backward pass: less memory, a third more time"
    )
    deterministic: bool = Field(
        description="on GPUs, choose algorithms that give the same result every time; off: the fastest"
    )
    loader: Literal["auto", "resident", "cache", "shards", "stream"] = Field(
        description=(
            "where images come from, with the same batches from each: resident: decoded into memory; cache: decoded"
            " once into a memory-mapped file; shards: decoded by `workers` as they are needed; stream: likewise, from"
            " copies that are fetched ahead from `shards`. auto: resident (several processes: cache) if half the free"
            " memory holds them, else shards"
        ),
    )
    workers: int = Field(
        ge=0,
        description=(
            "processes that decode for the loaders shards and stream; 0 = one a core of each GPU's share, on CPUs"
            " threads"
        ),
    )
    pin_memory: bool = Field(description="hand batches to GPUs from page-locked memory, while they compute")
    decode: Literal["cpu", "gpu"] = Field(
        description="gpu: loaders shards and stream send JPEG files to the GPU, which decodes them"
    )
    shards: dict[str, str] = Field(
        description="for the loader stream: source -> URL prefix below which its shards lie (s3://, file:)"
    )
    threads: int = Field(
        ge=0, description="CPU threads a process computes with; 0 = all cores, shared among the devices"
    )
    save_every_s: int | float = Field(
        gt=0, description="seconds between saves of the state from which a killed training resumes"
    )
    keep_states: int = Field(
        gt=0, description="newest of those states that are kept; an older one serves where a newer is damaged"
    )
    log_every: int = Field(gt=0, description="steps between rows of log.csv")

    @property
    def streamed(self) -> Collection[str]:
        """Sources whose shards are fetched while training."""
        return self.shards if self.loader == "stream" else ()

    @property
    def processes(self) -> int:
        """Devices over all machines, with a process each."""
        return self.devices * self.nodes


# Keys of Trainer that may change a training's result: DVC trains anew when one of them changes, and a saved state of
# other values is another training's. The rest says where batches come from, how fast, and what is kept for an accident.
DECIDING = (
    "accelerator",
    "channels_last",
    "compile",
    "decode",
    "deterministic",
    "devices",
    "fused",
    "grad_checkpointing",
    "log_every",
    "nodes",
    "precision",
    "strategy",
    "tf32",
)
