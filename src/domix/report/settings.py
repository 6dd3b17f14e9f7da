"""The block `report` of the parameters."""

from __future__ import annotations

from pydantic import Field

from domix.runtime.settings import Settings


class Report(Settings):
    """The page that a reader opens."""

    title: str = Field(description="headline of the report page")
