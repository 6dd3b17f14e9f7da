"""The block `analyses.separation` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """How far apart the domains lie in the embedding."""

    images: int = Field(250, ge=10, description="images a domain in the UMAP, drawn by seed")
    neighbours: int = Field(15, ge=2, description="UMAP's n_neighbors")
    min_distance: float = Field(0.1, description="UMAP's min_dist")
    densmap: bool = Field(
        False, description="preserve local density too (densMAP), as the reference study does; slower"
    )
    without: str | None = Field(
        None, description="a domain without which the map is drawn once more; null: no second map"
    )
    seed: int = Field(42, description="seed of the draw and of UMAP")
