"""How long a training lasts, and its learning rate step by step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass

from domix.runtime.errors import ParameterError

Schedule = Callable[[int], float]  # the learning rate of step 0 .. total - 1


def total_steps(count: int, *, batch: int, samples: int | None, epochs: int | None, section: str = "train") -> int:
    """Return the optimiser steps of a training on `count` samples: whole batches only, as many as fit.

    Raises:
        ParameterError: less than one batch is asked for; `section` is the recipe's place in params.yaml.
    """
    wanted = samples if samples is not None else count * (epochs or 0)
    if wanted < batch:
        raise ParameterError(f"{section} asks for {wanted} samples in all, less than one batch of {batch}")
    return wanted // batch


def warmup_steps(warmup: float, total: int) -> int:
    """Return the steps of linear warm-up: `warmup` itself, or that share of all steps where it is below 1."""
    return round(warmup * total) if warmup < 1 else round(warmup)


def step_of_epoch(epoch: int, *, count: int, batch: int) -> int:
    """Return after how many steps every one of `count` samples has been seen `epoch` times."""
    return math.ceil(epoch * count / batch)


@dataclass(frozen=True)
class WarmupCosine:
    """open_clip's formula: linear warm-up to `peak` in `warmup` steps, then half a cosine down to 0 at step `total`."""

    peak: float
    warmup: int
    total: int

    def __call__(self, step: int) -> float:
        """Return the learning rate of step 0 .. total - 1."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = (step - self.warmup) / (self.total - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * done)) * self.peak


@dataclass(frozen=True)
class Milestones:
    """`peak`, multiplied by `factor` once each of the rising `steps` is reached."""

    peak: float
    steps: tuple[int, ...]
    factor: float

    def __call__(self, step: int) -> float:
        """Return the learning rate of step 0 .. total - 1."""
        return self.peak * self.factor ** bisect.bisect_right(self.steps, step)
