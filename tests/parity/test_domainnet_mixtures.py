"""All published sizes of the reference study's 105 mixtures come out of the algorithm."""

from __future__ import annotations

import numpy as np
import pytest

from domix.data.mixtures.aliases import alias
from domix.data.mixtures.cells import Cells, Split, count_cells, make_split
from domix.data.mixtures.mixing import build_mixture
from domix.data.mixtures.names import parse_mixture, parse_mixtures, reference_names
from domix.data.mixtures.recipes import Recipe
from domix.data.mixtures.selection import common_size, quotas
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
    assert alias(recipe, split) == f"lso-{letters}-no{test_domain}classes"
    assert parse_mixture(alias(recipe, split), split).standard_name(split) == recipe.name
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
    contents, by_golden = set(), set()
    for test_domain in golden.TESTABLE:
        split = split_of(cells, test_domain)
        for recipe in parse_mixtures(reference_names(split), split):
            contents.add((quotas(recipe, cells, split).tobytes(), recipe.caption))
        names = [name for name, domain in golden.COMPOSITION if domain == test_domain]
        names += [f"{family}+{share}" for family in ("cg-low", "cg-high") for share in golden.SHARES]
        names += [f"lso-{x}-no{domain}classes" for x, domain in golden.INTERPOLATION if domain == test_domain]
        names += ["natural-only"] + ["cg-high+aligned"] * (test_domain == "quickdraw")
        for recipe in parse_mixtures(names, split):
            by_golden.add((quotas(recipe, cells, split).tobytes(), recipe.caption))
    assert len(contents) == 105
    assert contents == by_golden


def validation_quotas(recipe: Recipe, cells: Cells, split: Split) -> np.ndarray:
    """Return the test samples of each cell that belong to the reference's validation file, int64 [G, K].

    They are never cut to a size: the whole test split of the mixture's domains, without the test classes in the test
    domain unless the mixture shows some.
    """
    included = np.isin(cells.domains, recipe.domains)
    tested = np.outer(np.isin(cells.domains, split.test_domain), np.isin(cells.classes, split.test_classes))
    counts = np.where(included[:, None], cells.test, 0)
    return counts if recipe.share else np.where(tested, 0, counts)


@pytest.mark.parametrize("name", golden.VALIDATION)
def test_validation_rows(name, cells):
    splits = [split_of(cells, test_domain) for test_domain in golden.TESTABLE]
    counts = [int(validation_quotas(parse_mixture(name, split), cells, split).sum()) for split in splits]
    assert tuple(counts) == golden.VALIDATION[name]


@pytest.mark.parametrize("base", ["cc3m", "cc12m"])
def test_the_seven_mixtures_of_cc_bases(base, cells):
    rows, aliases = np.arange(5), set()
    for test_domain, parts in golden.CC_PARTS.items():
        split = split_of(cells, test_domain)
        recipes = parse_mixtures(reference_names(split, base=[base]), split, base=[base])
        assert {alias(recipe, split) for recipe in recipes} == {f"{base}-train-{part}" for part in parts}
        for recipe in recipes:
            mixture = build_mixture(recipe, cells, split, source="domainnet", base={base: rows})
            family, size = recipe.family, golden.SIZE[test_domain]
            assert mixture.samples == {base: 5, "domainnet": golden.NATURAL_ONLY if family == "natural-only" else size}
            again = parse_mixture(mixture.alias, split, base=[base])
            assert again.standard_name(split) == recipe.name
            aliases.add(mixture.alias)
    assert len(aliases) == 7


@pytest.mark.parametrize(("name", "test_domain"), golden.DIGESTS)
def test_digests_stay_what_they_were(name, test_domain, cells):
    split = split_of(cells, test_domain)
    recipe = parse_mixture(name, split, base=["web"])
    mixture = build_mixture(recipe, cells, split, source="domainnet", base={"web": np.arange(1000)})
    assert mixture.digest == golden.DIGESTS[name, test_domain]


@pytest.mark.parametrize("test_domain", golden.TESTABLE)
@pytest.mark.parametrize("name", ["cg-low", "cg-high", "leave-out-domain", "cg-high-all", "cg-low+0.2", "cg-high+0.05"])
def test_matched_mixtures_are_as_large_as_natural_only_and_a_part_of_the_others(name, test_domain, cells):
    kept, matched = quota(name, test_domain, cells), quota(f"{name}+matched", test_domain, cells)
    assert matched.sum() == golden.NATURAL_ONLY
    assert (matched <= kept).all()
    share = golden.NATURAL_ONLY / kept.sum()
    assert (abs(matched - share * kept) <= 1 + 1e-9).all()


@pytest.mark.parametrize("test_domain", golden.TESTABLE)
def test_whole_mixtures_hold_all_there_is_but_the_held_out_cells(test_domain, cells):
    for family in ("leave-out-domain", "cg-low", "cg-high", "cg-high-all"):
        recipe = parse_mixture(f"{family}+whole", split_of(cells, test_domain))
        whole = quotas(recipe, cells, split_of(cells, test_domain))
        included = np.isin(cells.domains, recipe.domains)
        tested = count_tested(cells.train, test_domain, cells) if family in ("cg-low", "cg-high") else 0
        assert whole.sum() == cells.train[included].sum() - tested
