"""The names of mixtures, and what each stands for.

    natural-only            pictures of the natural domain alone
    leave-out-domain        every domain but the test domain (domain generalisation)
    cg-low                  natural and test domain, the test domain without the test classes
    cg-high                 every domain, the test domain without the test classes (compositional generalisation)
    cg-low-all  cg-high-all their upper bounds: the test classes are kept

and what may follow, joined by `+`, in any order:

    cg-low+painting         further domains, from cg-low towards cg-high
    cg-high+0.1             a share of the test classes' samples is shown in the test domain after all
    cg-high+aligned         captions that do not name the domain

The reference study's own names are read too: `lso-cipqrs-noquickdrawclasses[-pseudo][-allow0.1][-aligned]`, where
letters are the first letters of the domains.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from domix.data.cells import Split, suggest
from domix.runtime.errors import ParameterError

FAMILIES = ("natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-low-all", "cg-high-all")
ALIGNED = "aligned"
_NUMBER = re.compile(r"\d*\.?\d+(e-?\d+)?")
_ALIAS = re.compile(r"lso-(?P<letters>.+)-no(?P<test>.+)classes(?P<suffixes>(-pseudo|-allow[\d.e-]*\d|-aligned)*)")


@dataclass(frozen=True)
class Recipe:
    """One mixture, resolved against a split: which domains it holds, and what of the withheld cells it shows."""

    name: str  # as the user wrote it; the file is named so
    family: str  # one of FAMILIES
    domains: tuple[str, ...]  # those it contains, in the data's order
    share: Fraction  # of the test cells' samples that it shows: 0 none, 1 all
    aligned: bool  # captions that do not name the domain

    @property
    def caption(self) -> str:
        """The column of the captions table that it reads."""
        return "aligned" if self.aligned else "standard"

    @property
    def sized(self) -> bool:
        """Whether it is cut to the common size; natural-only is not, as in the reference."""
        return self.family != "natural-only"

    def alias(self, split: Split) -> str:
        """Return the reference study's name for it."""
        letters = _letters(self.domains, split.domains)
        if self.family == "natural-only":
            return f"lso-{self.domains[0]}-only" + ("-aligned" if self.aligned else "")
        name = f"lso-{letters}-no{split.test_domain}classes"
        name += "-pseudo" if self.family.endswith("-all") else f"-allow{float(self.share)}" if self.share else ""
        return name + ("-aligned" if self.aligned else "")

    def standard_name(self, split: Split) -> str:
        """Return our own name for it, which two names of one mixture share."""
        family = self.family
        added = [d for d in self.domains if d not in (split.natural_domain, split.test_domain)]
        parts = added if family.startswith("cg-low") else []
        if self.domains == split.domains and parts:  # cg-low with all domains added
            family, parts = family.replace("low", "high"), []
        share = [f"{float(self.share):g}"] if 0 < self.share < 1 else []
        return "+".join([family, *parts, *share, *([ALIGNED] if self.aligned else [])])


def parse_mixture(name: str, split: Split) -> Recipe:
    """Read the name of a mixture for the domains and the test domain of `split`.

    Raises:
        ParameterError: the name is unknown, or what follows does not fit it or the data.
    """
    if name.startswith("lso-"):
        return _parse_alias(name, split)
    family, *extras = name.split("+")
    if family not in FAMILIES:
        raise ParameterError(f"mixture {name!r} is unknown: {suggest(family, FAMILIES)}")
    added, share, aligned = _parse_extras(name, extras, split)
    if added and family not in ("cg-low", "cg-low-all"):
        raise ParameterError(f"mixture {name!r}: domains can be added to cg-low and cg-low-all alone, not to {family}")
    if share and family not in ("cg-low", "cg-high"):
        raise ParameterError(f"mixture {name!r}: a share of the test classes fits cg-low and cg-high, not {family}")
    if family.endswith("-all"):
        share = Fraction(1)
    return Recipe(name, family, _domains(family, added, split), share, aligned)


def parse_mixtures(names: Sequence[str], split: Split) -> list[Recipe]:
    """Read several names.

    Raises:
        ParameterError: as `parse_mixture`, or two names stand for one mixture.
    """
    recipes = [parse_mixture(name, split) for name in names]
    seen: dict[str, str] = {}
    for recipe in recipes:
        standard = recipe.standard_name(split)
        if standard in seen:
            raise ParameterError(f"mixtures {seen[standard]!r} and {recipe.name!r} are the same mixture: name it once")
        seen[standard] = recipe.name
    return recipes


def _domains(family: str, added: Sequence[str], split: Split) -> tuple[str, ...]:
    natural, test = split.natural_domain, split.test_domain
    chosen = {
        "natural-only": {natural},
        "leave-out-domain": set(split.domains) - {test},
        "cg-low": {natural, test, *added},
        "cg-high": set(split.domains),
    }[family.removesuffix("-all")]
    return tuple(domain for domain in split.domains if domain in chosen)


def _parse_extras(name: str, extras: Sequence[str], split: Split) -> tuple[list[str], Fraction, bool]:
    """Read what follows the family's name: added domains, share of the test cells (0 if none), aligned captions."""
    added: list[str] = []
    share, aligned = Fraction(0), False
    for position, extra in enumerate(extras):
        if extra in extras[:position] or (share and _NUMBER.fullmatch(extra)):
            raise ParameterError(f"mixture {name!r} repeats {extra!r}: give one share, and each domain once")
        if extra in split.domains:
            if extra in (split.natural_domain, split.test_domain):
                raise ParameterError(f"mixture {name!r} holds domain {extra!r} already: leave '+{extra}' out")
            added.append(extra)
        elif extra == ALIGNED:
            aligned = True
        elif _NUMBER.fullmatch(extra):
            share = _share(name, extra)
        else:
            hint = suggest(extra, [*split.domains, ALIGNED])
            raise ParameterError(f"mixture {name!r}: {extra!r} is no domain of the data, share or '{ALIGNED}': {hint}")
    return added, share, aligned


def _share(name: str, text: str) -> Fraction:
    share = Fraction(text)
    if not 0 < share < 1:
        raise ParameterError(f"mixture {name!r}: the share must lie between 0 and 1; for all samples use cg-...-all")
    return share


def _letters(domains: Sequence[str], all_domains: Sequence[str]) -> str:
    """Name a set of domains by first letters where these are unlike in the data, else by full names joined with '.'."""
    return "".join(domain[0] for domain in domains) if _unlike_initials(all_domains) else ".".join(domains)


def _unlike_initials(all_domains: Sequence[str]) -> bool:
    return len({domain[0] for domain in all_domains}) == len(all_domains)


def _parse_alias(name: str, split: Split) -> Recipe:
    """Read one of the reference study's names."""
    plain = name.removesuffix("-aligned")
    if plain == f"lso-{split.natural_domain}-only":
        return Recipe(name, "natural-only", (split.natural_domain,), Fraction(0), plain != name)
    match = _ALIAS.fullmatch(name)
    if match is None:
        raise ParameterError(
            f"mixture {name!r} is not one of the reference's names: they read lso-<letters>-no<domain>classes"
        )
    if match["test"] != split.test_domain:
        raise ParameterError(
            f"mixture {name!r} withholds cells of {match['test']!r}, but test_domain is {split.test_domain!r}: "
            "change one of them"
        )
    letters = match["letters"]
    wanted = list(letters) if _unlike_initials(split.domains) else letters.split(".")
    domains = tuple(d for d in split.domains if (d[0] if _unlike_initials(split.domains) else d) in wanted)
    if _letters(domains, split.domains) != letters or split.natural_domain not in domains:
        raise ParameterError(
            f"mixture {name!r}: {letters!r} does not stand for domains of the data with "
            f"{split.natural_domain!r} among them: {_letters(split.domains, split.domains)!r} stands for all"
        )
    return _alias_recipe(name, domains, match["suffixes"], split)


def _alias_recipe(name: str, domains: tuple[str, ...], suffixes: str, split: Split) -> Recipe:
    allow = re.search(r"-allow([\d.e-]*\d)", suffixes)
    share = _share(name, allow[1]) if allow else Fraction(0)
    every = "-pseudo" in suffixes
    if split.test_domain not in domains:
        if domains != _domains("leave-out-domain", (), split) or allow or every:
            raise ParameterError(f"mixture {name!r}: without the test domain only all other domains can be mixed")
        family = "leave-out-domain"
    else:
        family = ("cg-high" if domains == split.domains else "cg-low") + ("-all" if every else "")
    if allow and every:
        raise ParameterError(f"mixture {name!r}: -pseudo shows all test cells, so that no share can be given")
    return Recipe(name, family, domains, Fraction(1) if every else share, suffixes.endswith("-aligned"))
