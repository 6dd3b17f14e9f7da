"""The reference study's names of mixtures.

    lso-real-only                                        natural-only
    lso-<letters>-no<test domain>classes                 letters: the first ones of the domains, here `cipqrs` for all
        [-nosub][-pseudo][-allow0.1][-aligned]           whole; test classes kept; a share of them; aligned captions
        [-with-in-sketches[-<grade>]]                    with ImageNet-Sketch
    cc3m-train-lso-...  cc12m-train-lso-...              with that base; combined-captions-train-: ImageNet-Captions

`-matched`, before the sketches, is ours. Domains whose first letters are not unlike are named in full, joined by dots.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from domix.data.mixtures.cells import Split
from domix.data.mixtures.recipes import (
    COMMON,
    GRADES,
    MATCHED,
    OWN,
    SKETCHES,
    WHOLE,
    Recipe,
    domains_of,
    unlike_initials,
)
from domix.runtime.errors import ParameterError

CC_BASES = ("cc3m", "cc12m")
_PREFIXES = {"combined-captions-train-": "imagenet-captions"} | {f"{name}-train-": name for name in CC_BASES}
_SUFFIXES = re.compile(
    r"(?P<nosub>-nosub)?(?P<pseudo>-pseudo)?(-allow(?P<allow>[\d.e-]*\d))?(?P<aligned>-aligned)?(?P<matched>-matched)?"
    rf"(?P<sketches>-with-in-sketches(-(?P<grade>{'|'.join(GRADES)}))?)?"
)
_NAME = re.compile(r"lso-(?P<letters>.+)-no(?P<test>.+)classes(?P<suffixes>(-.*)?)")


def alias(recipe: Recipe, split: Split) -> str:
    """Return the reference study's name for a mixture; the user's own recipes have none but their own."""
    if recipe.family == OWN:
        return recipe.name
    prefix = f"{recipe.base[0]}-train-" if recipe.base in [(name,) for name in CC_BASES] else ""
    if recipe.family == "natural-only":
        name = f"lso-{recipe.domains[0]}-only"
    else:
        name = f"lso-{_letters(recipe.domains, split.domains)}-no{split.test_domain}classes"
        name += "-nosub" if recipe.size == WHOLE else ""
        name += "-pseudo" if recipe.family.endswith("-all") else ""
        name += f"-allow{float(recipe.share)}" if 0 < recipe.share < 1 else ""
    name += "-aligned" if recipe.aligned else ""
    name += "-matched" if recipe.size == MATCHED else ""
    name += "-with-in-sketches" if recipe.sketches else ""
    name += f"-{recipe.sketches}" if recipe.sketches in GRADES else ""
    return prefix + name


def is_alias(name: str) -> bool:
    """Return whether a name is one of the reference's, or meant to be."""
    return name.startswith(("lso-", *_PREFIXES))


def parse_alias(name: str, split: Split, base: Sequence[str] = ()) -> Recipe:
    """Read one of the reference study's names.

    Raises:
        ParameterError: it is none of them, or does not fit the data, the test domain or the base.
    """
    plain = _without_base(name, base)
    only = f"lso-{split.natural_domain}-only"
    if plain.startswith(only):
        return _recipe(name, None, plain.removeprefix(only), split, base)
    match = _NAME.fullmatch(plain)
    if match is None:
        raise ParameterError(
            f"mixture {name!r} is not one of the reference's names: they read lso-<letters>-no<domain>classes"
        )
    if match["test"] != split.test_domain:
        raise ParameterError(
            f"mixture {name!r} withholds cells of {match['test']!r}, but test_domain is {split.test_domain!r}: "
            "change one of them"
        )
    letters, short = match["letters"], unlike_initials(split.domains)
    wanted = list(letters) if short else letters.split(".")
    domains = tuple(d for d in split.domains if (d[0] if short else d) in wanted)
    if _letters(domains, split.domains) != letters or split.natural_domain not in domains:
        raise ParameterError(
            f"mixture {name!r}: {letters!r} does not stand for domains of the data with "
            f"{split.natural_domain!r} among them: {_letters(split.domains, split.domains)!r} stands for all"
        )
    return _recipe(name, domains, match["suffixes"], split, base)


def parse_share(name: str, text: str) -> Fraction:
    """Read the share of the test classes' samples that mixture `name` shows.

    Raises:
        ParameterError: it is not between 0 and 1.
    """
    share = Fraction(text)
    if not 0 < share < 1:
        raise ParameterError(f"mixture {name!r}: the share must lie between 0 and 1; for all samples use cg-...-all")
    return share


def _without_base(name: str, base: Sequence[str]) -> str:
    for prefix, source in _PREFIXES.items():
        if name.startswith(prefix):
            if tuple(base) != (source,):
                raise ParameterError(
                    f"mixture {name!r} has the base {source}, but base is [{', '.join(base)}]: set base to [{source}]"
                )
            return name.removeprefix(prefix)
    return name


def _letters(domains: Sequence[str], all_domains: Sequence[str]) -> str:
    """Name a set of domains by first letters where these are unlike in the data, else by full names joined with '.'."""
    return "".join(domain[0] for domain in domains) if unlike_initials(all_domains) else ".".join(domains)


def _recipe(name: str, domains: tuple[str, ...] | None, suffixes: str, split: Split, base: Sequence[str]) -> Recipe:
    """Make the recipe of a name's domains (None: natural-only) and suffixes."""
    match = _SUFFIXES.fullmatch(suffixes)
    if match is None:
        raise ParameterError(
            f"mixture {name!r}: {suffixes!r} is not what may follow: [-nosub][-pseudo][-allow<share>][-aligned]"
            f"[-matched][-with-in-sketches[-<{'|'.join(GRADES)}>]], in this order"
        )
    family = _family(name, domains, match, split)
    size = WHOLE if match["nosub"] or family == "natural-only" else MATCHED if match["matched"] else COMMON
    return Recipe(
        name=name,
        family=family,
        domains=(split.natural_domain,) if domains is None else domains,
        share=Fraction(1) if match["pseudo"] else parse_share(name, match["allow"]) if match["allow"] else Fraction(0),
        aligned=bool(match["aligned"]),
        size=size,
        sketches=match["grade"] or (SKETCHES if match["sketches"] else ""),
        base=tuple(base),
    )


def _family(name: str, domains: tuple[str, ...] | None, match: re.Match[str], split: Split) -> str:
    """Tell which family has these domains, and refuse suffixes that do not go with it or with each other."""
    if match["pseudo"] and match["allow"]:
        raise ParameterError(f"mixture {name!r}: -pseudo shows all test cells, so that no share can be given")
    if match["nosub"] and (match["allow"] or match["matched"]):
        raise ParameterError(f"mixture {name!r}: -nosub matches no size, and goes with neither -allow nor -matched")
    shown = match["pseudo"] or match["allow"]
    if domains is None:
        if shown or match["nosub"] or match["matched"]:
            raise ParameterError(f"mixture {name!r}: natural-only has its own size always, and no test cells")
        return "natural-only"
    if split.test_domain not in domains:
        if domains != domains_of("leave-out-domain", (), split) or shown:
            raise ParameterError(f"mixture {name!r}: without the test domain only all other domains can be mixed")
        return "leave-out-domain"
    return ("cg-high" if domains == split.domains else "cg-low") + ("-all" if match["pseudo"] else "")
