"""The block `analyses.cka` of the parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """How alike two domains are represented, layer by layer."""

    kernels: list[Literal["linear", "rbf"]] = Field(
        ["linear", "rbf"], min_length=1, description="kernels to compare with"
    )
    median: Literal["mean", "lower"] = Field(
        "mean",
        description="median of an even number of squared distances, which sets rbf's width: the mean of the two in the "
        "middle, or the lower of them, as in the reference study",
    )
