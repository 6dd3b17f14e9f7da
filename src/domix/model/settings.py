"""The block `model` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.runtime.settings import Settings


class Model(Settings):
    """The CLIP model."""

    name: str = Field(
        description="an open_clip model name, a configuration shipped with Domix (mini), or the path of a JSON file"
    )
