"""Mixtures of the user's own: a recipe of params.yaml, checked against the data.

    recipes:
      few-sketches:                 # put the name among `mixtures`, too
        domains: {real: 1, sketch: 0.5, painting: 1}    # domain -> share of every cell's samples
        caps: {sketch: 20, "*": 100}                    # most samples a cell
        size: common                                    # then every cell is cut by the same share

The steps come in that order: share of a domain, share of the test classes, caps, size; each keeps the first samples in
list order. Unless `show_test_classes` says otherwise, no sample of a test class is shown in the test domain.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from domix.data.mixtures.aliases import is_alias
from domix.data.mixtures.cells import Cells, Ints, Split, suggest
from domix.data.mixtures.recipes import FAMILIES, OWN, WHOLE, Recipe
from domix.runtime.errors import ParameterError

if TYPE_CHECKING:
    from domix.data.mixtures.settings import RecipeSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # it becomes a file's name, and part of a run's
_OTHERS = "*"


def resolve(name: str, spec: RecipeSpec, split: Split, base: Sequence[str]) -> Recipe:
    """Check one of the user's own recipes.

    Raises:
        ParameterError: a name that cannot be used, or a domain or class that the data do not have.
    """
    if _NAME.fullmatch(name) is None or name in FAMILIES or is_alias(name):
        raise ParameterError(
            f"recipes: {name!r} cannot name a recipe: use letters, digits, '-', '_' and '.', and none of the names that"
            " Domix knows"
        )
    where = f"recipes.{name}"
    _require_known(f"{where}.domains", spec.domains, split.domains)
    _require_known(f"{where}.classes", spec.classes or (), split.classes)
    _require_known(f"{where}.leave_out", spec.leave_out, spec.domains)
    for domain, classes in spec.leave_out.items():
        _require_known(f"{where}.leave_out.{domain}", classes, split.classes)
    _require_known(f"{where}.caps", [domain for domain in spec.caps if domain != _OTHERS], spec.domains)
    _require_known(f"{where}.weights", spec.weights, [*spec.domains, *(base if spec.base else ())])
    return Recipe(
        name=name,
        family=OWN,
        domains=tuple(domain for domain in split.domains if domain in spec.domains),
        share=_exact(spec.show_test_classes),
        aligned=spec.caption == "aligned",
        size=WHOLE if spec.size is None else spec.size,
        base=tuple(base) if spec.base else (),
        spec=spec,
    )


def own_pool(recipe: Recipe, spec: RecipeSpec, cells: Cells, split: Split) -> Ints:
    """Return how many samples of each cell the recipe leaves before it is cut to a size, int64 [G, K]."""
    shares = [_exact(spec.domains.get(domain, 0.0)) for domain in cells.domains]
    pool = np.stack([first_part(row, share) for row, share in zip(cells.train, shares, strict=True)])
    if spec.classes is not None:
        pool[:, [name not in spec.classes for name in cells.classes]] = 0
    for domain, classes in spec.leave_out.items():
        pool[cells.domains.index(domain), [cells.classes.index(name) for name in classes]] = 0
    test, tested = cells.domains.index(split.test_domain), [cells.classes.index(name) for name in split.test_classes]
    pool[test, tested] = first_part(pool[test, tested], recipe.share)
    for row, domain in enumerate(cells.domains):
        cap = spec.caps.get(domain, spec.caps.get(_OTHERS))
        if cap is not None:
            pool[row] = pool[row].clip(max=cap)
    return pool


def first_part(counts: Ints, share: Fraction) -> Ints:
    """Return ceil(counts * share) exactly; in floating point a whole result may come out one higher."""
    top = int(counts.max(initial=0))
    products = counts.astype(object) * share.numerator if top * share.numerator >= 2**62 else counts * share.numerator
    return (-(-products // share.denominator)).astype(np.int64)


def _exact(share: bool | float) -> Fraction:
    """Return the share as it was written, 0.1 as a tenth."""
    return Fraction(str(float(share)))


def _require_known(where: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ParameterError(f"{where} names {name!r}, which is not there: {suggest(name, list(known))}")
