"""A figure that the study view does not have, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domix.figures.figure import Figure


@dataclass(frozen=True)
class Absent:
    """A figure whose data are not there; `reason` says what would bring them."""

    name: str
    title: str
    reason: str


Shown = Sequence[Figure | Absent]
