"""Training mixtures: which samples of the data a model is shown.

All mixtures but natural-only hold the same number of samples of the multi-domain source: N*, the size of cg-low. What
is too much is cut off as in the reference study, without any random draw:

1. Of a pool of N_F samples every cell keeps its first ceil(N* / N_F * n) samples in list order.
2. Rounding up leaves a surplus. Domain by domain, the natural one first and the others by falling size, every cell
   gives up its last sample in turn (classes in order of first appearance) until N* are left.
3. A share `a` of the test classes' cells in the test domain, where it is asked for, is set aside first:
   ceil(a * N* / N_F * n) samples of each, which step 2 leaves alone.

Prefixes nest: of two mixtures' samples of one cell, one set contains the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from domix.data.cells import Cells, Ints, Split
from domix.data.recipes import Recipe
from domix.runtime.errors import DataError
from domix.runtime.files import write_json
from domix.runtime.tables import read_metadata, read_table, write_table

CAPTIONS = ("standard", "aligned")
BASE_CAPTION = "standard"  # base corpora bring their own captions


@dataclass(frozen=True)
class Mixture:
    """One training mixture: the samples, and what it promises about them."""

    name: str
    alias: str  # the reference study's name
    standard_name: str  # ours, whatever the user called it
    caption: str  # standard | aligned
    domains: tuple[str, ...]  # of the multi-domain source, that it may contain
    withheld: tuple[str, tuple[str, ...]] | None  # (domain, classes) of which it must hold no sample
    parameters: dict[str, Any]  # what it was made with
    samples: dict[str, int]  # samples a source
    rows: pd.DataFrame = field(repr=False)  # source, row, caption (words as categories); rows rising within a source

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every row: equal for equal samples and captions, whatever the name."""
        digest = hashlib.sha256()
        for name, rows in self.rows.groupby(["source", "caption"], sort=False, observed=True)["row"]:
            source, caption = cast(tuple[str, str], name)
            digest.update(f"{source}\x1f{caption}\x1f{len(rows)}\x1f".encode())
            digest.update(rows.to_numpy(dtype="<i8").tobytes())
        return digest.hexdigest()


def common_size(cells: Cells, split: Split) -> int:
    """Return N*: the natural domain's training samples, and the test domain's without those of the test classes."""
    natural, test = cells.domains.index(split.natural_domain), cells.domains.index(split.test_domain)
    tested = _labels(cells, split)
    return int(cells.train[natural].sum() + cells.train[test].sum() - cells.train[test, tested].sum())


def quotas(recipe: Recipe, cells: Cells, split: Split) -> Ints:
    """Return how many samples of each cell the mixture holds, int64 [G, K]: always the first in list order.

    Raises:
        DataError: the mixture's domains hold fewer samples than the common size, or none.
    """
    included = np.array([domain in recipe.domains for domain in cells.domains])
    pool = np.where(included[:, None], cells.train, 0)
    if not recipe.sized:
        _require_samples(recipe, pool)
        return pool
    tested = np.zeros(pool.shape, dtype=bool)
    tested[cells.domains.index(split.test_domain), _labels(cells, split)] = True
    if not recipe.share:
        pool[tested] = 0
    _require_samples(recipe, pool)
    size, full = common_size(cells, split), int(pool.sum())
    if full < size:
        raise DataError(
            f"mixture {recipe.name!r} cannot be made as large as cg-low ({size} samples): its domains "
            f"{', '.join(recipe.domains)} hold {full}; add domains or leave it out"
        )
    if recipe.share in (0, 1):
        return _trim(_cut(pool, size, full), size, np.zeros_like(tested), cells, split)
    part = recipe.share
    kept = np.where(tested, _cut(pool, size * part.numerator, full * part.denominator), 0)
    rest = np.where(tested, 0, pool)
    kept += _cut(rest, size - int(kept.sum()), int(rest.sum()))
    return _trim(kept, size, tested, cells, split)


def _cut(counts: Ints, numerator: int, denominator: int) -> Ints:
    """Return ceil(counts * numerator/denominator) exactly; in floating point a whole result may come out one higher."""
    products = counts.astype(object) * numerator if counts.max() * float(numerator) > 2**62 else counts * numerator
    return (-(-products // denominator)).astype(np.int64)


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


def _labels(cells: Cells, split: Split) -> list[int]:
    return [cells.classes.index(name) for name in split.test_classes]


def _require_samples(recipe: Recipe, pool: Ints) -> None:
    if pool.sum() == 0:
        raise DataError(
            f"mixture {recipe.name!r} is empty: there is no training sample in its domains {', '.join(recipe.domains)}"
        )


def build_mixture(
    recipe: Recipe, cells: Cells, split: Split, *, source: str, base: Mapping[str, Ints] | None = None
) -> Mixture:
    """Choose the samples of one mixture.

    Args:
        cells: those of the multi-domain source, named `source`.
        base: base source -> the index rows of its training samples, all of which every mixture contains.

    Raises:
        DataError: as `quotas`.
    """
    quota = quotas(recipe, cells, split).ravel()
    rows = {name: np.sort(chosen) for name, chosen in (base or {}).items()}
    rows[source] = cells.row[cells.rank < quota[cells.code]]
    caption = {name: recipe.caption if name == source else BASE_CAPTION for name in rows}
    part = np.repeat(np.arange(len(rows)), [len(chosen) for chosen in rows.values()])
    spoken = np.array([CAPTIONS.index(caption[name]) for name in rows])
    frame = pd.DataFrame(
        {
            "source": pd.Categorical.from_codes(part, list(rows)),
            "row": np.concatenate(list(rows.values())),
            "caption": pd.Categorical.from_codes(spoken[part], list(CAPTIONS)),
        }
    )
    return Mixture(
        name=recipe.name,
        alias=recipe.alias(split),
        standard_name=recipe.standard_name(split),
        caption=recipe.caption,
        domains=recipe.domains,
        withheld=_withheld(recipe, split),
        parameters=_parameters(recipe, split, source),
        samples={name: len(chosen) for name, chosen in rows.items()},
        rows=frame,
    )


def _withheld(recipe: Recipe, split: Split) -> tuple[str, tuple[str, ...]] | None:
    """Return the cells that the mixture must not hold; natural-only, the same for all test domains, names none."""
    if recipe.family == "natural-only" or recipe.share:
        return None
    shown = split.test_domain in recipe.domains
    return split.test_domain, split.test_classes if shown else split.classes


def _parameters(recipe: Recipe, split: Split, source: str) -> dict[str, Any]:
    common = {"source": source, "natural_domain": split.natural_domain}
    if recipe.family == "natural-only":  # must not depend on the test domain: its file is the same for all
        return common
    share = float(recipe.share)
    return common | {"test_domain": split.test_domain, "test_classes": list(split.test_classes), "share": share}


def assert_withheld(rows: pd.DataFrame, mixture: Mixture) -> None:
    """Check that samples (columns `source`, `domain`, `class`) keep what the mixture promises.

    It is checked when a mixture is written, and again when a training opens it.

    Raises:
        DataError: a sample of a withheld cell, or of a domain that the mixture does not contain.
    """
    mine = (rows["source"] == mixture.parameters["source"]).to_numpy()
    foreign = mine & ~rows["domain"].isin(mixture.domains).to_numpy()
    if foreign.any():
        domain = rows["domain"].iloc[int(foreign.argmax())]
        raise DataError(
            f"mixture {mixture.name!r} must not hold domain {domain!r}, but has {foreign.sum()} of its samples"
        )
    if mixture.withheld is None:
        return
    domain, classes = mixture.withheld
    leaked = ((rows["domain"] == domain) & rows["class"].isin(classes)).to_numpy(dtype=bool)
    if leaked.any():
        sample = rows.iloc[int(leaked.argmax())]
        raise DataError(
            f"mixture {mixture.name!r} must not show {sample['class']!r} in domain {domain!r}, but has {leaked.sum()} "
            f"samples of withheld cells (source {sample['source']!r}): run the stage mixtures again (dvc repro)"
        )


def write_mixture(path: Path, mixture: Mixture, indices: Mapping[str, pd.DataFrame]) -> None:
    """Write a mixture as parquet, after checking it against the sources' indices (columns `row`, `domain`, `class`).

    Raises:
        DataError: it holds a withheld sample.
    """
    assert_withheld(describe_rows(mixture.rows, indices), mixture)
    metadata = {
        "name": mixture.name,
        "alias": mixture.alias,
        "standard_name": mixture.standard_name,
        "caption": mixture.caption,
        "domains": list(mixture.domains),
        "withheld": mixture.withheld,
        "parameters": mixture.parameters,
        "samples": mixture.samples,
        "digest": mixture.digest,
    }
    write_table(path, mixture.rows, metadata)


def read_mixture(path: Path) -> Mixture:
    """Read a mixture and check that its rows are those that were written.

    Raises:
        DataError: the file is missing or damaged, or its rows do not fit its digest.
    """
    metadata, rows = read_metadata(path), read_table(path, ["source", "row", "caption"])
    digest = metadata.pop("digest", None)
    withheld = metadata.pop("withheld", None)
    try:
        domains = tuple(metadata.pop("domains"))
        mixture = Mixture(
            **metadata, domains=domains, rows=rows, withheld=withheld and (withheld[0], tuple(withheld[1]))
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} was written by another version of Domix: delete it and run dvc repro") from error
    if mixture.digest != digest:
        raise DataError(f"{path} is damaged: its rows do not fit its digest; delete it and run dvc repro")
    return mixture


def describe_rows(rows: pd.DataFrame, indices: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return `source, row, domain, class` of a mixture's rows, in their order.

    Raises:
        DataError: a source without an index, or a row that the index does not have.
    """
    parts = []
    for name in rows["source"].unique():
        if name not in indices:
            raise DataError(f"the mixture holds samples of source {name!r}, which is not among {', '.join(indices)}")
        index, mine = indices[name], rows[rows["source"] == name]
        if not index["row"].is_monotonic_increasing:
            index = index.sort_values("row")
        known = index["row"].to_numpy()
        place = np.searchsorted(known, mine["row"].to_numpy()).clip(max=max(len(known) - 1, 0))
        absent = known[place] != mine["row"].to_numpy() if len(known) else np.ones(len(mine), dtype=bool)
        if absent.any():
            row = mine["row"].iloc[int(absent.argmax())]
            raise DataError(f"source {name!r} has no row {row}: run the stage mixtures again (dvc repro)")
        found = index[["domain", "class"]].iloc[place].set_index(mine.index)
        parts.append(pd.concat([mine[["source", "row"]], found], axis=1))
    return pd.concat(parts).loc[rows.index]


def count_shown(mixture: Mixture, cells: Cells) -> Ints:
    """Return the multi-domain source's samples in the mixture, int64 [G, K]."""
    mine = mixture.rows.loc[mixture.rows["source"] == mixture.parameters["source"], "row"].to_numpy()
    codes = cells.code[np.searchsorted(cells.row, mine)]
    return np.bincount(codes, minlength=cells.train.size).reshape(cells.train.shape)


def write_summary(folder: Path, mixtures: Iterable[Mixture], cells: Cells, split: Split) -> None:
    """Write `summary.json` and `cells.parquet`: what every mixture of a study holds, by domain and by cell."""
    described, tables = [], []
    for mixture in mixtures:
        shown = count_shown(mixture, cells)
        described.append(
            {
                "name": mixture.name,
                "alias": mixture.alias,
                "standard_name": mixture.standard_name,
                "samples": len(mixture.rows),
                "digest": mixture.digest,
                "sources": mixture.samples,
                "domains": dict(zip(cells.domains, shown.sum(axis=1).tolist(), strict=True)),
            }
        )
        tables.append(
            pd.DataFrame(
                {
                    "mixture": mixture.name,
                    "domain": np.repeat(cells.domains, len(cells.classes)),
                    "class": np.tile(cells.classes, len(cells.domains)),
                    "samples": shown.ravel(),
                }
            )
        )
    summary = {
        "test_domain": split.test_domain,
        "natural_domain": split.natural_domain,
        "domains": list(cells.domains),
        "classes": list(cells.classes),
        "test_classes": list(split.test_classes),
        "mixtures": described,
    }
    write_json(folder / "summary.json", summary)
    write_table(folder / "cells.parquet", pd.concat(tables, ignore_index=True))
