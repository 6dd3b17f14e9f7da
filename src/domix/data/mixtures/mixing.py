"""Make training mixtures: from recipes and the cells of the data to samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from domix.data.mixtures import additions
from domix.data.mixtures.aliases import alias
from domix.data.mixtures.cells import Cells, Ints, Split
from domix.data.mixtures.mixture import CAPTIONS, Mixture
from domix.data.mixtures.recipes import Recipe
from domix.data.mixtures.selection import quotas
from domix.runtime.errors import DataError

BASE_CAPTION = "standard"  # sources beside the multi-domain one bring their own captions


def base_rows(name: str, index: pd.DataFrame) -> Ints:
    """Return the index rows (columns `row`, `split`) of a base source that every mixture contains: its training split.

    Raises:
        DataError: it has none.
    """
    rows = index["row"].to_numpy(dtype=np.int64)[(index["split"] == "train").to_numpy()]
    if len(rows) == 0:
        raise DataError(f"base source {name!r} has no training samples: take it out of base, or mend its split")
    return rows if bool((rows[1:] > rows[:-1]).all()) else np.sort(rows)


def build_mixture(
    recipe: Recipe,
    cells: Cells,
    split: Split,
    *,
    source: str,
    base: Mapping[str, Ints] | None = None,
    sketches: Ints | None = None,
) -> Mixture:
    """Choose the samples of one mixture.

    Args:
        cells: those of the multi-domain source, named `source`.
        base: base source -> the index rows of its training samples; at least those that the recipe names.
        sketches: rows of ImageNet-Sketch (`additions.unlike_sketches`), for recipes that ask for them.

    Raises:
        DataError: as `quotas` and `additions.keep_beside`.
    """
    quota = quotas(recipe, cells, split).ravel()
    chosen = np.flatnonzero(cells.rank < quota[cells.code])
    added: dict[str, Ints] = {}
    if recipe.sketches:
        assert sketches is not None, "the recipe asks for sketches"
        chosen = additions.keep_beside(chosen, len(sketches), recipe, cells, split)
        added[additions.SOURCE] = sketches
    rows = {name: (base or {})[name] for name in recipe.base} | {source: cells.row[chosen]} | added
    return Mixture(
        name=recipe.name,
        alias=alias(recipe, split),
        standard_name=recipe.standard_name(split),
        caption=recipe.caption,
        domains=recipe.domains,
        held_out=_held_out(recipe, split),
        parameters=_parameters(recipe, split, source),
        samples={name: len(mine) for name, mine in rows.items()},
        rows=_frame(recipe, rows, source, cells.code[chosen] // len(cells.classes), cells.domains),
    )


def _frame(recipe: Recipe, rows: dict[str, Ints], source: str, domain: Ints, domains: tuple[str, ...]) -> pd.DataFrame:
    """Put the sources' rows together; `domain` numbers that of each of the multi-domain source's rows."""
    lengths = [len(mine) for mine in rows.values()]
    captions = [recipe.caption if name == source else BASE_CAPTION for name in rows]
    weight = np.ones(sum(lengths), dtype=np.float32)
    if recipe.spec is not None and recipe.spec.weights:
        weights = recipe.spec.weights
        parts = [np.full(length, weights.get(name, 1.0)) for name, length in zip(rows, lengths, strict=True)]
        parts[list(rows).index(source)] = np.array([weights.get(name, 1.0) for name in domains])[domain]
        weight = np.concatenate(parts).astype(np.float32)
    return pd.DataFrame(
        {
            "source": pd.Categorical.from_codes(np.repeat(np.arange(len(rows), dtype=np.int8), lengths), list(rows)),
            "row": np.concatenate(list(rows.values())),
            "caption": pd.Categorical.from_codes(
                np.repeat(np.array([CAPTIONS.index(caption) for caption in captions], dtype=np.int8), lengths),
                list(CAPTIONS),
            ),
            "weight": weight,
        },
        copy=False,
    )


def _held_out(recipe: Recipe, split: Split) -> tuple[str, tuple[str, ...]] | None:
    """Return the cells that the mixture must not hold; natural-only, the same for all test domains, names none."""
    if recipe.family == "natural-only" or recipe.share:
        return None
    shown = split.test_domain in recipe.domains
    return split.test_domain, split.test_classes if shown else split.classes


def _parameters(recipe: Recipe, split: Split, source: str) -> dict[str, Any]:
    given: dict[str, Any] = {"source": source, "natural_domain": split.natural_domain}
    if recipe.family != "natural-only":  # must not depend on the test domain: its file is the same for all
        given |= {"test_domain": split.test_domain, "test_classes": list(split.test_classes)}
        given["share"] = float(recipe.share)
    if recipe.sketches:
        given["sketches"] = recipe.sketches
    if recipe.spec is not None:
        given["recipe"] = recipe.spec.model_dump()
    return given
