"""How many samples of every cell a mixture holds: always the first in list order.

All of the study's mixtures but natural-only hold the same number of samples of the multi-domain source: N*, the size of
cg-low. What is too much is cut off as in the reference study, without any random draw:

1. Of a pool of N_F samples every cell keeps its first ceil(N* / N_F * n) samples in list order.
2. Rounding up leaves a surplus. Domain by domain, the natural one first and the others by falling size, every cell
   gives up its last sample in turn (classes in order of first appearance) until N* are left.
3. A share `a` of the test classes' cells in the test domain, where it is asked for, is set aside first:
   ceil(a * N* / N_F * n) samples of each, which step 2 leaves alone.

Prefixes nest: of two mixtures' samples of one cell, one set contains the other. A `+matched` mixture is cut by steps 1
and 2 from the one of common size, so that every cell's part lies within that one's.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from domix.data.mixtures.cells import Cells, Ints, Split
from domix.data.mixtures.own_recipes import first_part, own_pool
from domix.data.mixtures.recipes import COMMON, MATCHED, WHOLE, Recipe
from domix.runtime.errors import DataError


def common_size(cells: Cells, split: Split) -> int:
    """Return N*: the natural domain's training samples, and the test domain's without those of the test classes."""
    test, tested = cells.domains.index(split.test_domain), _labels(cells, split)
    return natural_size(cells, split) + int(cells.train[test].sum() - cells.train[test, tested].sum())


def natural_size(cells: Cells, split: Split) -> int:
    """Return the natural domain's training samples: the size of natural-only, and of `+matched` mixtures."""
    return int(cells.train[cells.domains.index(split.natural_domain)].sum())


def quotas(recipe: Recipe, cells: Cells, split: Split) -> Ints:
    """Return how many samples of each cell the mixture holds, int64 [G, K]: always the first in list order.

    Raises:
        DataError: the mixture's domains hold fewer samples than the size that is asked for, or none.
    """
    tested = _tested(cells, split)
    pool = _pool(recipe, cells, split, tested)
    if pool.sum() == 0:
        raise DataError(
            f"mixture {recipe.name!r} is empty: there is no training sample in its domains {', '.join(recipe.domains)}"
        )
    if recipe.size == WHOLE:
        return pool
    if isinstance(recipe.size, int):
        return _resize(pool, recipe.size, recipe, cells, split)
    size = common_size(cells, split)
    if recipe.spec is not None or recipe.share in (0, 1):
        kept = _resize(pool, size, recipe, cells, split)
    else:
        kept = _resize_with_share(pool, size, tested, recipe, cells, split)
    return _resize(kept, natural_size(cells, split), recipe, cells, split) if recipe.size == MATCHED else kept


def tsv_order(chosen: Ints, cells: Cells) -> Ints:
    """Order positions in `cells.row` as the reference writes samples: by domain, by class in order of first appearance,
    by list."""
    code = cells.code[chosen]
    return chosen[np.lexsort((cells.rank[chosen], cells.first.ravel()[code], code // len(cells.classes)))]


def _pool(recipe: Recipe, cells: Cells, split: Split, tested: np.ndarray) -> Ints:
    """Return the samples to choose from, int64 [G, K]."""
    if recipe.spec is not None:
        return own_pool(recipe, recipe.spec, cells, split)
    pool = np.where(_included(recipe, cells)[:, None], cells.train, 0)
    return pool if recipe.share else np.where(tested, 0, pool)


def _resize(pool: Ints, size: int, recipe: Recipe, cells: Cells, split: Split) -> Ints:
    """Cut the cells to `size` samples in all, each by the same share."""
    full = _require_enough(pool, size, recipe)
    return _trim(first_part(pool, Fraction(size, full)), size, np.zeros(pool.shape, dtype=bool), cells, split)


def _resize_with_share(pool: Ints, size: int, tested: np.ndarray, recipe: Recipe, cells: Cells, split: Split) -> Ints:
    """Cut as `_resize`, after setting the recipe's share of the held-out cells aside."""
    full = _require_enough(pool, size, recipe)
    kept = np.where(tested, first_part(pool, recipe.share * Fraction(size, full)), 0)
    rest = np.where(tested, 0, pool)
    kept += first_part(rest, Fraction(size - int(kept.sum()), int(rest.sum())))
    return _trim(kept, size, tested, cells, split)


def _require_enough(pool: Ints, size: int, recipe: Recipe) -> int:
    full = int(pool.sum())
    if full < size:
        reason = f"as large as cg-low ({size} samples)" if recipe.size in (COMMON, MATCHED) else f"{size} samples large"
        raise DataError(
            f"mixture {recipe.name!r} cannot be made {reason}: its domains {', '.join(recipe.domains)} hold {full}; add"
            " domains or leave it out"
        )
    return full


def _trim(kept: Ints, size: int, spared: np.ndarray, cells: Cells, split: Split) -> Ints:
    """Take single samples off the cells [G, K] in turn, but not off the `spared` ones, until `size` are left."""
    order = _trim_order(cells, split)
    flat = kept.ravel().copy()
    surplus = int(flat.sum()) - size
    while surplus > 0:
        turn = order[(flat[order] > 0) & ~spared.ravel()[order]][:surplus]
        flat[turn] -= 1
        surplus -= len(turn)
    return flat.reshape(kept.shape)


def _trim_order(cells: Cells, split: Split) -> Ints:
    """Return all cells' codes in the order in which they give up samples.

    Domains: the natural one first, the others by falling number of training samples. On DomainNet that is the
    reference's order: real, quickdraw, painting, sketch, infograph, clipart.
    """
    sizes = cells.train.sum(axis=1)
    names = sorted(cells.domains, key=lambda d: (d != split.natural_domain, -sizes[cells.domains.index(d)], d))
    domains = np.array([cells.domains.index(name) for name in names])
    by_appearance = np.argsort(cells.first[domains], axis=1, kind="stable")
    return (domains[:, None] * len(cells.classes) + by_appearance).ravel()


def _included(recipe: Recipe, cells: Cells) -> np.ndarray:
    return np.array([domain in recipe.domains for domain in cells.domains])


def _tested(cells: Cells, split: Split) -> np.ndarray:
    """Return where the held-out cells are, bool [G, K]."""
    tested = np.zeros(cells.train.shape, dtype=bool)
    tested[cells.domains.index(split.test_domain), _labels(cells, split)] = True
    return tested


def _labels(cells: Cells, split: Split) -> list[int]:
    return [cells.classes.index(name) for name in split.test_classes]
