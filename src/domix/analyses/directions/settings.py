"""The block `analyses.directions` of the parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """Privileged directions of the zero-shot head."""

    mixtures: list[str] | None = Field(None, description="those whose models are analysed; null = all")
    images: Literal["natural", "all"] = Field(
        "natural", description="whose embeddings importance is measured on: test images of the natural domain, or all"
    )
    importance: Literal["abs_mean", "mean_abs"] = Field(
        "abs_mean", description="shown first: absolute value of the cosines before or after the mean over images"
    )
    deviations: float = Field(
        6.0, gt=0, description="standard deviations by which a direction, or an outlier feature, stands above the mean"
    )
