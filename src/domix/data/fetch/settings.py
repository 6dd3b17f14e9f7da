"""The block `fetch` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.runtime.settings import Settings


class Fetch(Settings):
    """Where the files of each source lie, or how they are downloaded."""

    paths: dict[str, str] = Field(
        description=(
            "source name -> folder that holds its files, relative to the repository or absolute; a source without one"
            " is downloaded into .cache/downloads"
        ),
    )
    mirrors: dict[str, str] = Field(
        description="source name -> URL prefix that is tried before those of the source's manifest"
    )
    offline: bool = Field(description="never use the network: what is not on this disk is an error")
    jobs: int = Field(ge=1, description="files downloaded at a time")
