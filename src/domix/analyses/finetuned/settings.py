"""The block `analyses.finetuned` of the parameters; the defaults are WiSE-FT's recipe."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from domix.runtime import settings
from domix.runtime.settings import require


class Settings(settings.Settings):
    """Models fine-tuned on natural images from their zero-shot classifiers, and the weights in between."""

    mixtures: list[str] | None = Field(
        ["cg-high", "leave-out-domain"], description="those whose models are fine-tuned; null = all"
    )
    epochs: int = Field(10, gt=0, description="passes over the natural training images")
    batch: int = Field(256, gt=0, description="images an optimiser step")
    accumulate: int = Field(1, gt=0, description="parts in which a batch is computed: less memory, more time")
    lr: float = Field(3e-5, gt=0, description="peak learning rate")
    warmup: int | float = Field(500, ge=0, description="linear warm-up: steps, or a share of all steps if below 1")
    weight_decay: float = Field(0.1, ge=0, description="weight decay, of every weight")
    alphas: list[float] = Field(
        [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0],
        description="weights of the fine-tuned model that are measured, rising from 0 to 1",
    )
    images: int | None = Field(None, ge=4, description="test images a domain; null = all")
    percent: list[float] = Field(
        [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99], min_length=1, description="of the directions, that are pruned"
    )
    importance: Literal["abs_mean", "mean_abs"] = Field(
        "abs_mean", description="absolute value of the cosines before or after the mean over images"
    )
    draws: int = Field(5, ge=1, description="random orders of pruning, for a band")
    seed: int = Field(0, description="of the fine-tuning's order and crops, the draw of test images, random orders")

    @model_validator(mode="after")
    def _check(self) -> Self:
        good = len(self.alphas) >= 2 and self.alphas == sorted(set(self.alphas))
        require(
            good and (self.alphas[0], self.alphas[-1]) == (0, 1), f"alphas must rise from 0 to 1, not {self.alphas}"
        )
        return self
