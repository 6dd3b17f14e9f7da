"""The blocks `separation`, `cka` and `leakage` of the parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domix.runtime.settings import Settings


class Separation(Settings):
    """How far apart the domains lie in the embedding."""

    pictures: int = Field(ge=10, description="pictures a domain in the UMAP, drawn by seed")
    neighbours: int = Field(ge=2, description="UMAP's n_neighbors")
    min_distance: float = Field(description="UMAP's min_dist")
    densmap: bool = Field(description="preserve local density too (densMAP), as the reference study does; slower")
    seed: int = Field(description="seed of the draw and of UMAP")


class Cka(Settings):
    """How alike two domains are represented, layer by layer."""

    kernels: list[Literal["linear", "rbf"]] = Field(min_length=1, description="kernels to compare with")


class Leakage(Settings):
    """The search for withheld test pictures, and pictures like them, in the training mixtures."""

    encoder: str | None = Field(
        description="run whose model embeds the pictures (cg-high-all-s0); null: the one that was shown most"
    )
    similarity: float = Field(
        gt=0, le=1, description="cosine similarity of two embeddings above which pictures count as duplicates"
    )
    examples: int = Field(ge=0, description="test pictures that the report shows with their nearest training pictures")
