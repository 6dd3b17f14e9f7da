"""The block `evaluate` of the parameters: how sure the results are."""

from __future__ import annotations

from pydantic import Field

from domix.runtime.settings import Settings


class Evaluate(Settings):
    """Accuracy and its uncertainty."""

    bootstrap: int = Field(ge=100, description="bootstrap samples for confidence intervals")
    confidence: float = Field(gt=0.5, lt=1, description="coverage of the intervals")
    seed: int = Field(description="seed of the resampling")
    top_k: int = Field(ge=1, description="k of the top-k accuracy")
    last: int = Field(
        ge=1, description="consecutive checkpoints, up to the last, whose results are averaged; 1: the last alone"
    )
