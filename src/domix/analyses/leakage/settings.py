"""The block `analyses.leakage` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.runtime import settings


class Settings(settings.Settings):
    """The search for held-out test images, and images like them, in the training mixtures."""

    encoder: str | None = Field(
        None, description="run whose model embeds the images (cg-high-all-s0); null: the one that was shown most"
    )
    similarity: float = Field(
        0.95, gt=0, le=1, description="cosine similarity of two embeddings above which images count as duplicates"
    )
    examples: int = Field(6, ge=0, description="test images that the report shows with their nearest training images")
