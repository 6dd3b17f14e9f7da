"""The base of all settings: strict, frozen, every key with a default and its meaning."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Settings that refuse unknown and mistyped keys; a whole number serves as a number, nothing else is converted."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")
