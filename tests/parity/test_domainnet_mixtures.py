"""All published sizes of the reference study's 105 mixtures come out of the algorithm."""

from __future__ import annotations

import numpy as np
import pytest

from domix.data.cells import Cells, Split, count_cells, make_split
from domix.data.mixtures import common_size, quotas
from domix.data.recipes import parse_mixture
from tests.golden import domainnet as golden


@pytest.fixture(scope="module")
def cells() -> Cells:
    return count_cells(golden.index())


def split_of(cells: Cells, test_domain: str) -> Split:
    return make_split(cells, test_domain=test_domain, natural_domain="real", test_classes=golden.TEST_CLASSES)


def quota(name: str, test_domain: str, cells: Cells) -> np.ndarray:
    split = split_of(cells, test_domain)
    return quotas(parse_mixture(name, split), cells, split)


def count_tested(quota: np.ndarray, test_domain: str, cells: Cells) -> int:
    labels = [cells.classes.index(name) for name in golden.TEST_CLASSES]
    return int(quota[cells.domains.index(test_domain), labels].sum())


def test_the_counts_are_domainnets(cells):
    assert cells.domains == golden.DOMAINS
    assert len(cells.classes) == 345
    assert cells.train.sum(axis=1).tolist() == [33525, 36023, 50416, 120750, 120906, 48212]
    assert cells.test.sum(axis=1).tolist() == [14604, 15582, 21850, 51750, 52041, 20916]


@pytest.mark.parametrize("test_domain", golden.TESTABLE)
def test_common_size(test_domain, cells):
    assert common_size(cells, split_of(cells, test_domain)) == golden.SIZE[test_domain]


@pytest.mark.parametrize(("name", "test_domain"), golden.COMPOSITION)
def test_composition(name, test_domain, cells):
    kept = quota(name, test_domain, cells)
    assert tuple(kept.sum(axis=1).tolist()) == golden.COMPOSITION[name, test_domain]
    assert kept.sum() == golden.SIZE[test_domain]


@pytest.mark.parametrize("test_domain", golden.TESTABLE)
def test_natural_only_is_not_cut(test_domain, cells):
    assert quota("natural-only", test_domain, cells).sum(axis=1).tolist() == [0, 0, 0, 0, golden.NATURAL_ONLY, 0]


@pytest.mark.parametrize(("family", "test_domain"), golden.READMITTED)
def test_readmitted_samples(family, test_domain, cells):
    kept = [quota(f"{family}+{share}", test_domain, cells) for share in golden.SHARES]
    assert tuple(count_tested(k, test_domain, cells) for k in kept) == golden.READMITTED[family, test_domain]
    assert {int(k.sum()) for k in kept} == {golden.SIZE[test_domain]}


@pytest.mark.parametrize(("letters", "test_domain"), golden.INTERPOLATION)
def test_interpolation(letters, test_domain, cells):
    pool, ratio, counts = golden.INTERPOLATION[letters, test_domain]
    included = [d for d in golden.DOMAINS if d[0] in letters]
    extras = [d for d in included if d not in ("real", test_domain)]
    split = split_of(cells, test_domain)
    recipe = parse_mixture("+".join(["cg-low", *extras]), split)
    assert recipe.alias(split) == f"lso-{letters}-no{test_domain}classes"
    assert parse_mixture(recipe.alias(split), split).standard_name(split) == recipe.name
    kept = quotas(recipe, cells, split)
    assert tuple(kept.sum(axis=1)[np.isin(golden.DOMAINS, included)].tolist()) == counts
    chosen = np.isin(golden.DOMAINS, included)
    assert cells.train[chosen].sum() - count_tested(cells.train, test_domain, cells) == pool
    assert round(golden.SIZE[test_domain] / pool, 5) == ratio


@pytest.mark.parametrize(("name", "test_domain"), golden.RATIO)
def test_every_cell_keeps_the_published_ratio(name, test_domain, cells):
    """A cell's share is N* / pool, rounded up to whole samples and at most one lower."""
    kept = quota(name, test_domain, cells)
    full = np.where(kept > 0, cells.train, 0)
    exact = golden.RATIO[name, test_domain] * full
    assert (kept <= np.ceil(exact + 0.01)).all() and (kept >= np.ceil(exact - 0.01) - 1)[full > 0].all()


def test_the_105_mixtures_of_the_study_are_all_unlike(cells):
    contents = set()
    for test_domain in golden.TESTABLE:
        split = split_of(cells, test_domain)
        names = [name for name, domain in golden.COMPOSITION if domain == test_domain]
        names += [f"{family}+{share}" for family in ("cg-low", "cg-high") for share in golden.SHARES]
        for letters, domain in golden.INTERPOLATION:
            if domain == test_domain:
                names.append(f"lso-{letters}-no{domain}classes")
        names += ["natural-only"] + ["cg-high+aligned"] * (test_domain == "quickdraw")
        for name in names:
            recipe = parse_mixture(name, split)
            contents.add((quotas(recipe, cells, split).tobytes(), recipe.caption))
    assert len(contents) == 105
