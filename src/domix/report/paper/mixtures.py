"""What each mixture shows, read off its standard name and its counts: the axes of the interpolation figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from domix.data.mixtures.names import parse_mixture
from domix.data.mixtures.recipes import COMMON, FAMILIES, OWN, WHOLE
from domix.study import Split, split_of

MAIN = ("natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-low-all", "cg-high-all")
BASELINE = "natural-only"
LOW, HIGH = "cg-low", "cg-high"


@dataclass(frozen=True)
class Shown:
    """One mixture of one test domain."""

    name: str  # standard
    family: str
    domains: tuple[str, ...]  # of which it shows images
    share: float  # of the test cells' samples that it shows
    plain: bool  # nothing but family, domains and share sets it apart: no aligned captions, other size or sketches
    samples: int

    @property
    def is_between(self) -> bool:
        """Whether it lies between cg-low and cg-high: further domains, nothing of the test cells."""
        return self.plain and self.family == LOW and self.share == 0 and len(self.domains) > 2

    @property
    def line(self) -> str:
        """The line of the exposure figure that it is a point of: cg-low or cg-high; none of both: an empty text."""
        family = self.family.removesuffix("-all")
        fits = self.plain and (family == HIGH or (family == LOW and len(self.domains) == 2))
        return family if fits else ""

    @property
    def is_partial(self) -> bool:
        """Whether it shows a part of the test cells, and is a point of a line."""
        return bool(self.line) and 0 < self.share < 1


def read_mixtures(summary: dict[str, Any]) -> dict[str, Shown]:
    """Read all mixtures of a summary.json by their standard names."""
    split = split_of(summary)
    return {mixture["standard_name"]: _read(mixture, split) for mixture in summary["mixtures"]}


def _read(mixture: dict[str, Any], split: Split) -> Shown:
    name, samples = mixture["standard_name"], int(mixture["samples"])
    if name.split("+")[0] not in FAMILIES:
        domains = tuple(domain for domain in split.domains if mixture["domains"].get(domain, 0))
        return Shown(name, OWN, domains, 0.0, False, samples)
    recipe = parse_mixture(name, split)
    size = WHOLE if recipe.family == BASELINE else COMMON
    plain = not recipe.aligned and not recipe.sketches and recipe.size == size
    return Shown(name, recipe.family, recipe.domains, float(recipe.share), plain, samples)


def in_order(names: Sequence[str], mixtures: dict[str, Shown]) -> list[str]:
    """Sort standard names: the main mixtures, from the least shown to the most; then the others."""
    between = [name for name in names if name not in MAIN]
    return [name for name in MAIN if name in names] + sorted(between, key=lambda name: _place(name, mixtures))


def _place(name: str, mixtures: dict[str, Shown]) -> tuple[int, str, int, float]:
    shown = mixtures.get(name)
    if shown is None:
        return (2, "", 0, 0.0)
    families = {LOW: "0", HIGH: "1"}
    kind = 0 if shown.plain else 1
    return (
        kind,
        families.get(shown.family, "2"),
        len(shown.domains),
        shown.share,
    )
