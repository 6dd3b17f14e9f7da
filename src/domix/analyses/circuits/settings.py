"""The block `analyses.circuits` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """Which channels carry a class in each domain, and how alike these circuits are."""

    mixtures: list[str] | None = Field(
        ["cg-high", "leave-out-domain"], description="those whose models are analysed; null = all"
    )
    sites: list[str] | None = Field(
        None, min_length=2, description="places of the image tower, in order of depth; null = all"
    )
    share: float = Field(0.1, gt=0, le=1, description="of a site's channels that are in a circuit")
    steps: int = Field(10, ge=2, description="steps of the integrated gradients")
    edge_k: int = Field(3, ge=1, description="edges into a channel, at most")
    keep_zero: bool = Field(False, description="keep edges of weight zero, as the reference study does")
    images: int = Field(50, ge=1, description="images a domain and class, drawn by seed from the test images")
    test_classes: int | None = Field(10, ge=1, description="test classes, drawn by seed; null = all")
    seen_classes: int | None = Field(6, ge=0, description="other classes, likewise")
    random: int = Field(3, ge=1, description="random circuits that each circuit's faithfulness is compared with")
    seed: int = Field(42, description="seed of the draws")
