"""What a mixture is made of: one recipe, resolved against a split.

The families of the study, which `data/mixtures/names.py` reads off a name:

    natural-only            images of the natural domain alone
    leave-out-domain        every domain but the test domain (domain generalisation)
    cg-low                  natural and test domain, the test domain without the test classes
    cg-high                 every domain, the test domain without the test classes (compositional generalisation)
    cg-low-all  cg-high-all their upper bounds: the test classes are kept

A recipe of the user's own (params.yaml, `recipes`) belongs to the family `own`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from domix.data.mixtures.cells import Split

if TYPE_CHECKING:
    from domix.data.mixtures.settings import RecipeSpec

FAMILIES = ("natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-low-all", "cg-high-all")
OWN = "own"
ALIGNED, SKETCHES = "aligned", "sketches"
# Sizes: everything there is; that of cg-low, as all of the study's mixtures but natural-only; that of natural-only.
WHOLE, COMMON, MATCHED = "whole", "common", "matched"
# Graded additions of ImageNet-Sketch, in the order in which the reference draws them -> share of the seen classes whose
# own sketches stay; `one`: a single class.
GRADES = {
    "fiftyp": Fraction(1, 2),
    "twentyfivep": Fraction(1, 4),
    "thirtyp": Fraction(3, 10),
    "tenp": Fraction(1, 10),
    "fivep": Fraction(1, 20),
    "onep": Fraction(1, 100),
    "one": Fraction(0),
}


@dataclass(frozen=True)
class Recipe:
    """One mixture, resolved against a split: which domains it holds, and what of the held-out cells it shows."""

    name: str  # as the user wrote it; the file is named so
    family: str  # one of FAMILIES, or OWN
    domains: tuple[str, ...]  # those it contains, in the data's order
    share: Fraction = Fraction(0)  # of the test cells' samples that it shows: 0 none, 1 all
    aligned: bool = False  # captions that do not name the domain
    size: str | int = COMMON  # of the multi-domain source: WHOLE, COMMON, MATCHED or a number of samples
    sketches: str = ""  # ImageNet-Sketch takes the place of other samples: "" not, SKETCHES, or one of GRADES
    base: tuple[str, ...] = ()  # sources that it contains whole
    spec: RecipeSpec | None = None  # of OWN

    @property
    def caption(self) -> str:
        """The column of the captions table that it reads."""
        return "aligned" if self.aligned else "standard"

    def standard_name(self, split: Split) -> str:
        """Return our own name for it, which two names of one mixture share."""
        if self.family == OWN:
            return self.name
        family = self.family
        added = [d for d in self.domains if d not in (split.natural_domain, split.test_domain)]
        parts = added if family.startswith("cg-low") else []
        if self.domains == split.domains and parts:  # cg-low with all domains added
            family, parts = family.replace("low", "high"), []
        if 0 < self.share < 1:
            parts = [*parts, f"{float(self.share):g}"]
        if self.size == MATCHED or (self.size == WHOLE and family != "natural-only"):
            parts = [*parts, str(self.size)]
        if self.sketches:
            parts = [*parts, SKETCHES if self.sketches == SKETCHES else f"{SKETCHES}-{self.sketches}"]
        return "+".join([family, *parts, *([ALIGNED] if self.aligned else [])])


def domains_of(family: str, added: Collection[str], split: Split) -> tuple[str, ...]:
    """Return the domains of one of FAMILIES with others `added` to it, in the data's order."""
    natural, test = split.natural_domain, split.test_domain
    chosen = {
        "natural-only": {natural},
        "leave-out-domain": set(split.domains) - {test},
        "cg-low": {natural, test, *added},
        "cg-high": set(split.domains),
    }[family.removesuffix("-all")]
    return tuple(domain for domain in split.domains if domain in chosen)


def unlike_initials(domains: Sequence[str]) -> bool:
    """Return whether first letters tell the domains apart."""
    return len({domain[0] for domain in domains}) == len(domains)
