"""The block `analyses.sae` of the parameters, and what it shares with other analyses of a sparse autoencoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domix.runtime import settings


class Autoencoder(settings.Settings):
    """A sparse autoencoder of each run's activations; analyses that have these keys alike share one."""

    mixtures: list[str] | None = Field(
        ["cg-high", "leave-out-domain"], description="mixtures whose runs have one; null: all"
    )
    site: str | None = Field(None, description="where the activations are read; null: the last, the image embedding")
    positions: Literal["pooled", "every"] = Field(
        "pooled", description="what an activation is: the mean over an image's positions, or that of every position"
    )
    unit_length: bool = Field(True, description="scale each activation to length one, as the embedding is")
    images: int | None = Field(
        500, ge=1, description="training images a domain and source that it learns from, drawn by seed; null: all"
    )
    units: int = Field(512, ge=2, description="units; the reference study has four times the activation's channels")
    activation: Literal["relu", "topk", "batchtopk"] = Field("relu", description="what makes the units sparse")
    k: int = Field(16, ge=1, description="units that an activation has, of topk and batchtopk")
    nested: list[int] = Field([], description="numbers of first units that must reconstruct by themselves (Matryoshka)")
    l1: float = Field(1.5e-3, ge=0, description="weight of the units' summed values in the loss, of relu")
    lr: float = Field(2e-3, gt=0, description="learning rate of Adam")
    batch: int = Field(512, ge=1, description="activations a step")
    passes: int = Field(40, ge=1, description="times that all activations pass")
    resample_every: int | None = Field(
        20_000, ge=1, description="activations after which dead units get new directions; null: never"
    )
    resample_from: int = Field(819_200, ge=1, description="activations that new directions are drawn from")
    seed: int = Field(49, description="seed of weights, order and draws")


class Settings(Autoencoder):
    """Directions that a sparse autoencoder finds in a model's activations: how good, how sparse, and what they mean."""

    template: str = Field("{}", description="sentence of the words that name units, {} the word")
    browsed: int = Field(24, ge=0, description="units that the report shows with their images, of all runs together")
    top: int = Field(3, ge=1, description="images a domain on which a unit is most active")
    bins: int = Field(10, ge=2, description="bins of the histograms of a unit's values")
