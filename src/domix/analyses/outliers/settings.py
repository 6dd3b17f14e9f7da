"""The block `analyses.outliers` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """Kurtosis and outlier features of activations, at the output and site by site."""

    mixtures: list[str] | None = Field(None, description="those whose models are analysed; null = all")
    sites: list[str] | None = Field(
        None, description="where activations are read besides the output; null = every site; [] = none: no model is run"
    )
    images: int = Field(100, ge=2, description="test images a domain that are read at sites, drawn by seed")
    deviations: float = Field(
        6.0,
        gt=0,
        description="standard deviations by which an outlier feature stands above the mean feature; scaled down at "
        "sites so narrow that none can",
    )
    magnitude: float = Field(6.0, gt=0, description="of the rule of language models: how large a feature is at least")
    frequency: float = Field(0.75, gt=0, le=1, description="in which share of the images, for the same rule")
    seed: int = Field(0, description="seed of the draw")
