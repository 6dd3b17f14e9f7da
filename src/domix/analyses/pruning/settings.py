"""The block `analyses.pruning` of the parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """Accuracy of the zero-shot head with some of its directions pruned."""

    mixtures: list[str] | None = Field(None, description="those whose models are analysed; null = all")
    percent: list[float] = Field(
        [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99],
        min_length=1,
        description="of the directions, that are pruned; floor to whole ones, of equal ones the lesser singular value",
    )
    images: Literal["natural", "all"] = Field(
        "natural", description="whose embeddings importance is measured on: test images of the natural domain, or all"
    )
    importance: Literal["abs_mean", "mean_abs"] = Field(
        "abs_mean", description="absolute value of the cosines before or after the mean over images"
    )
    draws: int = Field(5, ge=1, description="random orders, for a band")
    seed: int = Field(0, description="of the random orders")
