"""The block `analyses.run_cka` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """How alike two models represent the same images, site by site."""

    mixtures: list[str] | None = Field(
        ["cg-high", "leave-out-domain"],
        description="mixtures whose models are compared, each with the first of these; null: all of the study",
    )
    sites: list[str] | None = Field(None, min_length=1, description="where activations are read; null: every site")
    images: int = Field(250, ge=4, description="test images a domain, drawn by seed")
    batch: int = Field(256, ge=4, description="images a mini-batch, over which the unbiased HSIC is averaged")
    seed: int = Field(0, description="seed of the draw and of the batches")
