"""The block `analyses.adversarial` of the parameters."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from domix.runtime import settings
from domix.runtime.settings import require


class Settings(settings.Settings):
    """Foreign images changed so little that hardly anyone sees it, until a model takes them for known ones."""

    mixtures: list[str] | None = Field(
        ["cg-high", "leave-out-domain"], description="those whose models are deceived; null = all"
    )
    ood: str | None = Field(
        None,
        description=(
            "set of foreign images, of `embed.sets`, or `<set>:near` or `<set>:far`, some of its classes (`embed.ood`);"
            " null = the held-out cells of the study"
        ),
    )
    pairs: int = Field(32, ge=2, description="foreign images, each with a training image whose embedding it shall get")
    steps: int = Field(250, ge=1, description="steps of Adam")
    lr: float = Field(1.0e-3, gt=0, description="its learning rate, pixels going from 0 to 1")
    smoothness: float = Field(
        5000.0, gt=0, description="weight of the roughness of smooth perturbations; that of patchy ones is 0"
    )
    batch: int = Field(16, ge=1, description="pairs at a time; moves results by no more than rounding")
    bank: int | None = Field(
        2000, ge=1, description="training images, drawn by seed, to which an image is compared; null = all"
    )
    shown: int = Field(3, ge=0, description="pairs of each run that the report shows")
    resamples: int = Field(1000, ge=1, description="resamples of the bootstrap")
    seed: int = Field(0, description="seed of draws, noise and bootstrap")

    @model_validator(mode="after")
    def _bank_holds_more_than_targets(self) -> Self:
        require(
            self.bank is None or self.bank > self.pairs,
            f"bank is {self.bank}, of which {self.pairs} (pairs) are targets: give more, or fewer pairs",
        )
        return self
