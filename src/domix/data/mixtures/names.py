"""Read the names of mixtures.

A name is that of a family (data/mixtures/recipes.py) and what may follow, joined by `+`, in any order:

    cg-low+painting         further domains, from cg-low towards cg-high
    cg-high+0.1             a share of the test classes' samples is shown in the test domain after all
    cg-high+aligned         captions that do not name the domain
    cg-high+whole           every sample there is, instead of as many as in cg-low
    cg-high+matched         cut to the size of natural-only, the one mixture that is smaller than the others and cannot
                            grow: for a fair comparison with it. It is a part of cg-high, the same share of every cell
    cg-high+sketches        ImageNet-Sketch's images of classes that the multi-domain source lacks take the place of
                            as many others (data/mixtures/additions.py)
    cg-high+sketches-tenp   and of the test domain's own classes only a tenth stays: fiftyp, thirtyp, twentyfivep, tenp,
                            fivep, onep, one

The reference study's own names (data/mixtures/aliases.py) and those of the user's own recipes
(data/mixtures/own_recipes.py) are read, too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

from domix.data.mixtures.aliases import CC_BASES, is_alias, parse_alias, parse_share
from domix.data.mixtures.cells import Split, suggest
from domix.data.mixtures.own_recipes import resolve
from domix.data.mixtures.recipes import (
    ALIGNED,
    COMMON,
    FAMILIES,
    GRADES,
    MATCHED,
    SKETCHES,
    WHOLE,
    Recipe,
    domains_of,
    unlike_initials,
)
from domix.runtime.errors import ParameterError

if TYPE_CHECKING:
    from domix.data.mixtures.settings import RecipeSpec

_NUMBER = re.compile(r"\d*\.?\d+(e-?\d+)?")
_WITH_SKETCHES = ("natural-only", "leave-out-domain", "cg-high")
_SKETCHES = {SKETCHES: SKETCHES} | {f"{SKETCHES}-{grade}": grade for grade in GRADES}

SHARES = ("0.05", "0.1", "0.2", "0.4", "0.6", "0.8")
# Test domain -> letters of the domains of its mixtures between cg-low and cg-high.
_BETWEEN = {
    "clipart": "crs cqr cpr cir cqrs cirs cprs cpqrs ciprs",
    "sketch": "qrs prs irs crs cqrs cprs cirs cpqrs ciprs",
}


def parse_mixture(
    name: str, split: Split, *, base: Sequence[str] = (), recipes: Mapping[str, RecipeSpec] | None = None
) -> Recipe:
    """Read the name of a mixture for the domains and the test domain of `split`.

    Args:
        base: the sources that every mixture contains whole.
        recipes: the user's own.

    Raises:
        ParameterError: the name is unknown, or what follows does not fit it or the data.
    """
    if recipes and name in recipes:
        return resolve(name, recipes[name], split, base)
    if is_alias(name):
        recipe = parse_alias(name, split, base)
    else:
        family, *extras = name.split("+")
        if family not in FAMILIES:
            raise ParameterError(f"mixture {name!r} is unknown: {suggest(family, [*FAMILIES, *(recipes or {})])}")
        recipe = _combine(name, family, _parse_extras(name, extras, split), split, base)
    _require_sketches_fit(recipe, split)
    return recipe


def parse_mixtures(
    names: Sequence[str], split: Split, *, base: Sequence[str] = (), recipes: Mapping[str, RecipeSpec] | None = None
) -> list[Recipe]:
    """Read several names, and check all of the user's own recipes.

    Raises:
        ParameterError: as `parse_mixture`, or two names stand for one mixture.
    """
    for own, spec in (recipes or {}).items():
        resolve(own, spec, split, base)
    parsed = [parse_mixture(name, split, base=base, recipes=recipes) for name in names]
    seen: dict[str, str] = {}
    for recipe in parsed:
        standard = recipe.standard_name(split)
        if standard in seen:
            raise ParameterError(f"mixtures {seen[standard]!r} and {recipe.name!r} are the same mixture: name it once")
        seen[standard] = recipe.name
    return parsed


def reference_names(split: Split, *, base: Sequence[str] = (), sketches: bool = False) -> list[str]:
    """Return the names of the reference study's mixtures for the split's test domain; natural-only, which they share,
    is the first.

    Over DomainNet's five test domains they are 105. With `sketches` come the ten that ImageNet-Sketch is added to, for
    the test domain sketch. With CC3M or CC12M as base the study has the four main ones alone.
    """
    names = ["natural-only", "cg-low", "cg-high", "leave-out-domain"]
    if tuple(base) in [(source,) for source in CC_BASES]:
        return names
    names += ["cg-low-all", "cg-high-all"]
    names += [f"{family}+{share}" for family in ("cg-low", "cg-high") for share in SHARES]
    if unlike_initials(split.domains):
        letters = {domain[0]: domain for domain in split.domains}
        held = (split.natural_domain, split.test_domain)
        for between in _BETWEEN.get(split.test_domain, "").split():
            if set(between) < letters.keys():
                names.append("+".join(["cg-low", *(letters[x] for x in between if letters[x] not in held)]))
    names += ["cg-high+aligned"] * (split.test_domain == "quickdraw")
    if sketches and split.test_domain == "sketch":
        names += [f"{family}+{SKETCHES}" for family in _WITH_SKETCHES] + [f"cg-high+{SKETCHES}-{g}" for g in GRADES]
    return names


@dataclass
class _Extras:
    """What follows a family's name."""

    added: list[str] = field(default_factory=list)  # domains
    share: Fraction = Fraction(0)
    aligned: bool = False
    size: str = COMMON
    sketches: str = ""


def _combine(name: str, family: str, extras: _Extras, split: Split, base: Sequence[str]) -> Recipe:
    """Make the recipe of a family and what follows its name."""
    if extras.added and family not in ("cg-low", "cg-low-all"):
        raise ParameterError(f"mixture {name!r}: domains can be added to cg-low and cg-low-all alone, not to {family}")
    if extras.share and family not in ("cg-low", "cg-high"):
        raise ParameterError(f"mixture {name!r}: a share of the test classes fits cg-low and cg-high, not {family}")
    size = extras.size
    if family == "natural-only":
        if size != COMMON:
            raise ParameterError(f"mixture {name!r}: natural-only has its own size always: leave '+{size}' out")
        size = WHOLE
    if extras.share and size == WHOLE:
        raise ParameterError(f"mixture {name!r}: a share of the test classes goes with size matching: leave one out")
    return Recipe(
        name=name,
        family=family,
        domains=domains_of(family, extras.added, split),
        share=Fraction(1) if family.endswith("-all") else extras.share,
        aligned=extras.aligned,
        size=size,
        sketches=extras.sketches,
        base=tuple(base),
    )


def _parse_extras(name: str, extras: Sequence[str], split: Split) -> _Extras:
    read = _Extras()
    extras = [unicodedata.normalize("NFC", extra) for extra in extras]  # as sources name their domains
    for position, extra in enumerate(extras):
        again = (
            extra in extras[:position]
            or (read.share and _NUMBER.fullmatch(extra))
            or (read.size != COMMON and extra in (WHOLE, MATCHED))
            or (read.sketches and extra in _SKETCHES)
        )
        if again:
            raise ParameterError(f"mixture {name!r} repeats {extra!r}: give one share and size, and each domain once")
        if extra in split.domains:
            if extra in (split.natural_domain, split.test_domain):
                raise ParameterError(f"mixture {name!r} holds domain {extra!r} already: leave '+{extra}' out")
            read.added.append(extra)
        elif extra == ALIGNED:
            read.aligned = True
        elif extra in (WHOLE, MATCHED):
            read.size = extra
        elif extra in _SKETCHES:
            read.sketches = _SKETCHES[extra]
        elif _NUMBER.fullmatch(extra):
            read.share = parse_share(name, extra)
        else:
            hint = suggest(extra, [*split.domains, ALIGNED, WHOLE, MATCHED, *_SKETCHES])
            raise ParameterError(f"mixture {name!r}: {extra!r} is no domain of the data, share or '{ALIGNED}': {hint}")
    return read


def _require_sketches_fit(recipe: Recipe, split: Split) -> None:
    if not recipe.sketches:
        return
    plain = recipe.share == 0 and recipe.size in (COMMON, WHOLE if recipe.family == "natural-only" else COMMON)
    if not plain or recipe.family not in _WITH_SKETCHES:
        raise ParameterError(
            f"mixture {recipe.name!r}: ImageNet-Sketch can be added to {', '.join(_WITH_SKETCHES)}, each as it is"
        )
    if recipe.sketches in GRADES and recipe.family != "cg-high":
        raise ParameterError(f"mixture {recipe.name!r}: only cg-high has sketches to take away: use '+{SKETCHES}'")
    if "sketch" not in split.test_domain.lower():
        raise ParameterError(
            f"mixture {recipe.name!r} adds sketches, but test_domain is {split.test_domain!r}: they are for"
            " studies that test sketches"
        )
    if "imagenet-sketch" in recipe.base:
        raise ParameterError(f"mixture {recipe.name!r} adds imagenet-sketch, which base names too: take it out of base")
