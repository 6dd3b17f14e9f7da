"""The block `captions` of the parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from domix.runtime.settings import Settings


class Captions(Settings):
    """How captions are made from classes and domains."""

    seed: int = Field(description="seed of the caption templates' random choices")
    stream: Literal["key", "reference"] = Field(
        description=(
            "key: each sample's choices hang on its key alone; reference: the reference study's one stream over all"
            " lists"
        ),
    )
    articles: Literal["right", "reference"] = Field(
        description='right: "an axe"; reference: "a axe", as in the reference study'
    )
