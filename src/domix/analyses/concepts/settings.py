"""The block `analyses.concepts` of the parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """Which concepts the units of a model encode, and how many a unit."""

    mixtures: list[str] | None = Field(None, description="those whose models are analysed; null = all")
    sites: list[str] = Field([], description="where channels are read besides the output; [] = none: no model is run")
    images: int = Field(250, ge=1, description="test images a domain, drawn by seed")
    least: int = Field(10, ge=1, description="images that show a concept at least; rarer ones are left out")
    negatives: Literal["category", "all"] = Field(
        "category", description="among which images a concept is sought: those annotated for its category, or all"
    )
    negated: bool = Field(False, description="whether a unit may encode a concept by being low, too")
    threshold: float = Field(
        0.9, ge=0.5, le=1, description="average precision from which a unit encodes a concept, in text and tests"
    )
    seed: int = Field(0, description="seed of the draw")
