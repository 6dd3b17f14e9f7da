"""The block `pack` of the parameters."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from domix.runtime.settings import Settings, require


class Pack(Settings):
    """How images are decoded, resized and written to shards."""

    size: int = Field(description="short side of the packed images, in pixels; 0 = keep every file as it is")
    format: Literal["png", "jpeg"] = Field(
        description="encoding of resized images: png is lossless, jpeg (quality 95) is smaller"
    )
    poses: int = Field(
        ge=1, description="seeded poses of each training drawing (bundled set only; its test images are as drawn)"
    )
    shard_samples: int = Field(ge=1, description="samples a shard, at most; also the unit of parallel work")
    max_bad_share: float = Field(ge=0, le=1, description="share of unreadable images above which the stage fails")
    workers: int = Field(ge=0, description="processes that decode; 0 = one a core (of the whole cluster with ray)")
    driver: Literal["processes", "ray"] = Field(description="processes of this machine, or a Ray cluster (extra `ray`)")

    @model_validator(mode="after")
    def _check(self) -> Self:
        require(self.size == 0 or self.size >= 8, f"size must be 0 or at least 8 pixels, not {self.size}")
        return self
