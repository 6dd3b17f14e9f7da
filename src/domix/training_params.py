"""The parameters of trainings: what is learned from what (`train`, `supervised`), how the machine does it (`trainer`).

Part of params.yaml; see domix.config. Recipes decide the weights. Of the trainer's keys, those in `DECIDING` may change
them in their last digits, the others never do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from domix.schema import doc, require


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every training has, whatever it learns."""

    samples: int | None = doc("samples seen in all, the same for every mixture; null: `epochs` decides")
    epochs: int | None = doc("passes over the mixture; null: `samples` decides")
    batch: int = doc("samples an optimiser step, over all devices")
    accumulate: int = doc("parts in which each device computes its share of a batch: less memory, more time")
    bn_group: int | None = doc(
        "pictures over which batch norm computes its statistics; null: a device's part of a batch"
        " (batch / devices / accumulate)"
    )
    window: int | None = doc(
        "shards whose samples are shuffled together, in windows of so many; null: all. Streaming needs a number"
    )
    drop_last: bool = doc(
        "end each epoch with its last whole batch, as open_clip does; else batches straddle epochs and none is dropped"
    )
    lr: float = doc("peak learning rate")
    weight_decay: float = doc("weight decay; biases, norms and the logit scale are exempt")
    clip_grad: float | None = doc("largest norm of the gradient; null: no clipping")
    crop_scale: list[float] = doc("random resized crop: least and greatest share of the picture's area")
    crop_ratio: list[float] = doc("random resized crop: least and greatest aspect ratio")
    mirror: float = doc("probability that a picture is mirrored")
    checkpoints: list[int] = doc("epochs after which weights are kept (0 = untrained)")

    def check(self, section: str) -> None:
        """Check the ranges; `section` is the recipe's place in params.yaml, for the message.

        Raises:
            ParameterError: a value out of range.
        """
        require(
            (self.samples is None) != (self.epochs is None),
            f"set exactly one of {section}.samples and {section}.epochs, and the other to null",
        )
        for name in ("samples", "epochs", "batch", "accumulate", "bn_group", "window", "lr", "clip_grad"):
            value = getattr(self, name)
            require(value is None or value > 0, f"{section}.{name} must be positive, not {value}")
        require(0 <= self.mirror <= 1, f"{section}.mirror must lie in 0..1, not {self.mirror}")
        for name, top in (("crop_scale", 1.0), ("crop_ratio", float("inf"))):
            pair = getattr(self, name)
            good = len(pair) == 2 and 0 < pair[0] <= pair[1] <= top
            require(good, f"{section}.{name} must be two rising positive numbers, not {pair}")
        for epoch in self.checkpoints:
            require(epoch >= 0, f"{section}.checkpoints must not be negative, but holds {epoch}")

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


@dataclass(frozen=True, kw_only=True)
class Train(Recipe):
    """The recipe of CLIP models."""

    warmup: int | float = doc("linear warm-up: optimiser steps, or a share of all steps if below 1")
    betas: list[float] | None = doc("AdamW betas; null: open_clip's (0.9, 0.98 for names with 'vit', else 0.9, 0.999)")
    eps: float | None = doc("AdamW epsilon; null: open_clip's (1e-6 for names with 'vit', else 1e-8)")
    context: int | Literal["trim", "full"] = doc(
        "tokens of a caption that the text tower reads: full: the model's whole context; trim: as many as the longest"
        " caption has, which gives the same numbers sooner; or a number, after which captions are cut"
    )

    def __post_init__(self) -> None:
        self.check("train")
        require(self.warmup >= 0, f"train.warmup must not be negative, but is {self.warmup}")
        require(self.betas is None or len(self.betas) == 2, f"train.betas must be two numbers, not {self.betas}")
        good = isinstance(self.context, str) or self.context >= 3
        require(good, f"train.context must be trim, full or at least 3 tokens, not {self.context}")


@dataclass(frozen=True, kw_only=True)
class Supervised(Recipe):
    """The recipe of supervised classifiers, the counterpart of CLIP models: pictures and classes, no captions."""

    mixtures: list[str] = doc("those of the mixtures on which classifiers are trained, too, with each of the seeds")
    encoder: str = doc(
        "clip: the image tower of model.name, ReLU, a linear layer; or the name of one of timm's classifiers"
    )
    momentum: float = doc("SGD's Nesterov momentum")
    milestones: list[int] = doc("epochs after which the learning rate is multiplied by `factor`")
    factor: float = doc("of the learning rate, at each milestone")

    def __post_init__(self) -> None:
        self.check("supervised")
        require(0 <= self.momentum < 1, f"supervised.momentum must lie in 0..1, not {self.momentum}")
        require(0 < self.factor <= 1, f"supervised.factor must be above 0 and at most 1, not {self.factor}")
        require(
            self.milestones == sorted(set(self.milestones)) and all(m > 0 for m in self.milestones),
            f"supervised.milestones must be rising positive epochs, not {self.milestones}",
        )


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Measurements on test pictures while CLIP trains: curves to watch, no part of the results."""

    every: int | None = doc("optimiser steps between measurements; null: none")
    pictures: int = doc("test pictures of cells that the mixture shows, and as many of withheld ones")
    template: str = doc("prompt of the zero-shot classifier, {} stands for the class")

    def __post_init__(self) -> None:
        require(self.every is None or self.every > 0, f"validation.every must be positive, not {self.every}")
        require(self.pictures >= 2, f"validation.pictures must be at least 2, not {self.pictures}")
        require("{}" in self.template, f"validation.template must hold {{}}, not {self.template!r}")


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Where and how trainings compute."""

    accelerator: Literal["auto", "cpu", "gpu"] = doc("where to train")
    devices: int = doc("devices a training uses on each machine")
    nodes: int = doc("machines a training uses")
    strategy: Literal["auto", "ddp"] = doc("how several devices work together: ddp, each with the whole model")
    precision: Literal["auto", "32", "bf16", "fp16"] = doc(
        "auto: bf16 where the device computes it natively, else 32; fp16 scales its gradients"
    )
    tf32: bool = doc("let GPUs multiply float32 matrices with 10 bits of mantissa: faster")
    channels_last: bool = doc("lay tensors out as channels-last: faster convolutions on CPUs and GPUs")
    compile: bool = doc("torch.compile the towers: faster steps after a minute of compiling")
    fused: bool = doc("the optimiser's fused step: one pass over the weights")
    grad_checkpointing: bool = doc("compute activations again in the backward pass: less memory, a third more time")
    deterministic: bool = doc("on GPUs, choose algorithms that give the same result every time; off: the fastest")
    loader: Literal["auto", "resident", "cache", "shards", "stream"] = doc(
        "where pictures come from, with the same batches from each: resident: decoded into memory; cache: decoded once"
        " into a memory-mapped file; shards: decoded by `workers` as they are needed; stream: likewise, from copies"
        " that are fetched ahead from `shards`. auto: resident (several processes: cache) if half the free memory holds"
        " them, else shards"
    )
    workers: int = doc(
        "processes that decode for the loaders shards and stream; 0 = one a core of each GPU's share, on CPUs threads"
    )
    pin_memory: bool = doc("hand batches to GPUs from page-locked memory, while they compute")
    decode: Literal["cpu", "gpu"] = doc("gpu: loaders shards and stream send JPEG files to the GPU, which decodes them")
    shards: dict[str, str] = doc(
        "for the loader stream: source -> URL prefix below which its shards lie (s3://, file:)"
    )
    threads: int = doc("CPU threads a process computes with; 0 = all cores, shared among the devices")
    save_every_s: int = doc("seconds between saves of the state from which a killed training resumes")
    keep_states: int = doc("newest of those states that are kept; an older one serves where a newer is damaged")
    log_every: int = doc("steps between rows of log.csv")

    def __post_init__(self) -> None:
        for name in ("devices", "nodes", "save_every_s", "keep_states", "log_every"):
            value = getattr(self, name)
            require(value > 0, f"trainer.{name} must be positive, not {value}")
        for name in ("workers", "threads"):
            value = getattr(self, name)
            require(value >= 0, f"trainer.{name} must not be negative, but is {value}")

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
