"""Feature sharing: what resampling and permutations say of data whose answer is known, and what is missing."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from domix.analyses.sharing.computation import average_tables, class_table
from domix.analyses.sharing.overlap import Votes, votes
from domix.analyses.sharing.resampled import ClassSharing, mean_matrices, share_classes, spread
from domix.analyses.sharing.settings import Settings

DOMAINS = ["real", "sketch", "quickdraw"]
CLASSES, IMAGES, UNITS = 12, 6, 120
EVERY = np.ones(CLASSES, dtype=bool)


def codes_of(apart: float, *, seed: int = 0, images: int = IMAGES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of images that answer to units of their class; in quickdraw, in part (`apart`), to others."""
    rng = np.random.default_rng(seed)
    label, domain = (part.ravel() for part in np.indices((CLASSES, len(DOMAINS), images))[:2])
    own = rng.random((CLASSES, 2, UNITS))
    place = ((domain == 2) & (rng.random(len(label)) < apart)).astype(int)
    return (own[label, place] + 0.3 * rng.random((len(label), UNITS))).astype(np.float32), label, domain


def shared(apart: float, **options: Any) -> ClassSharing:
    codes, label, domain = codes_of(apart, seed=options.pop("of", 0))
    given: dict[str, Any] = {"draws": 40, "permutations": 60, "seed": 1} | options
    return share_classes(votes(codes), label, domain, classes=CLASSES, domains=len(DOMAINS), **given)


def tables(found: ClassSharing, subsets: dict[str, np.ndarray] | None = None, **settings: Any) -> dict:
    return average_tables(found, DOMAINS, subsets or {"all": EVERY}, Settings(**settings), 0.95)


def test_a_domain_with_features_of_its_own_shares_less_than_chance() -> None:
    scores = tables(shared(1.0), resamples=200)["scores"].set_index("domain")
    assert scores.loc["quickdraw", "value"] < 0.5 * scores.loc["quickdraw", "null"]
    assert scores.loc["quickdraw", "p_value"] == pytest.approx(1 / 61)
    assert scores.loc["quickdraw", "high"] < scores.loc["quickdraw", "null"]
    assert scores.loc["quickdraw", "value"] < scores.loc["real", "value"]


def test_domains_that_are_dealt_by_chance_share_what_chance_would() -> None:
    values = [tables(shared(0.0, of=n), resamples=5)["scores"]["p_value"].to_numpy() for n in range(8)]
    assert 0.25 < np.concatenate(values).mean() < 0.75
    score = tables(shared(0.0), resamples=200)["scores"].iloc[0]
    assert score["low"] < score["value"] < score["high"]


def test_intervals_cover_the_choice_of_classes() -> None:
    """Sharing that differs from class to class, without a doubt about images: the interval of the classes' mean."""
    rng = np.random.default_rng(0)
    value = rng.random(CLASSES)
    matrix = np.repeat(value, 9).reshape(CLASSES, 3, 3)
    drawn = np.repeat(matrix[:, None], 3, axis=1).astype(np.float32)
    found = ClassSharing(matrix, np.full((CLASSES, 3), 20), np.full((CLASSES, 3), 4), drawn, drawn[:, :0])
    mean, resampled, _ = mean_matrices(found, EVERY, resamples=4000, seed=0)
    ends = spread(mean, resampled, drawn[0, :0], 0.95)
    half = 1.96 * value.std() / np.sqrt(CLASSES)
    assert mean[0, 1] == pytest.approx(value.mean())
    assert ends.low[0, 1] == pytest.approx(value.mean() - half, abs=0.02)
    assert ends.high[0, 1] == pytest.approx(value.mean() + half, abs=0.02)
    assert np.isnan(ends.p_value).all()


def test_images_add_to_the_doubt_about_classes() -> None:
    found = shared(0.5)
    still = ClassSharing(
        found.observed,
        found.units,
        found.images,
        np.repeat(found.observed[:, None], 40, axis=1).astype(np.float32),
        found.permuted,
    )
    wide, narrow = (tables(one, resamples=2000)["pairs"] for one in (found, still))
    assert (wide["high"] - wide["low"]).mean() > 1.05 * (narrow["high"] - narrow["low"]).mean()


def test_a_class_that_a_domain_lacks_is_left_out_of_its_pairs() -> None:
    codes, label, domain = codes_of(0.3)
    kept = ~((label == 3) & (domain == 2))
    options: dict[str, Any] = {"classes": CLASSES, "domains": 3, "draws": 5, "permutations": 5, "seed": 0}
    found = share_classes(votes(codes[kept]), label[kept], domain[kept], **options)
    assert np.isnan(found.observed[3, 2]).all() and np.isfinite(found.observed[3, 0, 1])
    assert np.isnan(found.drawn[3, :, 2]).all() and np.isnan(found.permuted[3, :, 2]).all()
    pairs = tables(found)["pairs"].set_index(["domain_a", "domain_b"])
    assert pairs["n"].to_dict() == {
        ("real", "sketch"): CLASSES,
        ("real", "quickdraw"): CLASSES - 1,
        ("sketch", "quickdraw"): CLASSES - 1,
    }
    others = np.arange(CLASSES) != 3
    expected = found.observed[others][:, 0, 2].mean()
    assert pairs.loc[("real", "quickdraw"), "value"] == pytest.approx(expected)
    names = [f"class {n}" for n in range(CLASSES)]
    table = class_table(found, DOMAINS, names)
    mine = table[table["class"] == "class 3"]
    assert list(zip(mine["domain_a"], mine["domain_b"], strict=True)) == [("real", "sketch")]


def test_a_cell_whose_images_have_no_active_unit_is_missing() -> None:
    codes, label, domain = codes_of(0.3)
    codes[(label == 3) & (domain == 2)] = 0
    options: dict[str, Any] = {"classes": CLASSES, "domains": 3, "draws": 5, "permutations": 5, "seed": 0}
    found = share_classes(votes(codes), label, domain, **options)
    assert np.isnan(found.observed[3, 2]).all() and found.units[3].tolist() == [20, 20, 0]
    codes[:] = 0
    nothing = share_classes(votes(codes), label, domain, **options)
    assert np.isnan(nothing.observed).all()
    made = tables(nothing)
    assert made["scores"]["value"].isna().all() and made["pairs"]["n"].eq(0).all()


def test_subsets_average_their_own_classes() -> None:
    found = shared(0.5)
    test = np.arange(CLASSES) < 4
    made = tables(found, {"test": test, "seen": ~test, "none": ~EVERY}, resamples=10)
    assert set(made["scores"]["cells"]) == {"test", "seen"}
    scores = made["pairs"].set_index(["cells", "domain_a", "domain_b"])["value"]
    assert scores["test", "real", "sketch"] == pytest.approx(found.observed[test][:, 0, 1].mean())
    assert scores["seen", "real", "sketch"] == pytest.approx(found.observed[~test][:, 0, 1].mean())


def test_draws_go_by_their_seed_and_a_class_hangs_on_its_own_images_alone() -> None:
    codes, label, domain = codes_of(0.5)
    options: dict[str, Any] = {"classes": CLASSES, "domains": 3, "draws": 4, "permutations": 4}
    one, again, other = (share_classes(votes(codes), label, domain, seed=seed, **options) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.drawn, again.drawn)
    assert not np.array_equal(one.drawn, other.drawn) and not np.array_equal(one.permuted, other.permuted)
    some = label < 5
    part = share_classes(votes(codes[some]), label[some], domain[some], seed=1, **options)
    np.testing.assert_array_equal(part.drawn[:5], one.drawn[:5])


def test_permutations_keep_how_many_images_a_domain_has() -> None:
    """With one domain's images all alike and different from the rest, only a permutation lets domains share."""
    unit = np.full((8, 20), -1)
    unit[:4, 0], unit[4:, 0] = 0, 1
    cast = Votes(unit, (unit >= 0).astype(np.float32))
    domain = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    options: dict[str, Any] = {"classes": 1, "domains": 3, "draws": 3, "permutations": 200, "seed": 0}
    found = share_classes(cast, np.zeros(8, np.int64), domain, **options)
    assert found.observed[0, 0, 1] == 0 and found.observed[0, 1, 2] == 1
    assert (found.drawn[0, :, 0, 1] == 0).all()
    assert found.permuted[0, :, 0, 1].mean() > 0.5
    assert found.images.tolist() == [[4, 3, 1]]


@pytest.mark.slow
def test_six_domains_of_345_classes_take_seconds() -> None:
    """As DomainNet's test split, from each image's votes: matrices of all classes and pairs."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(345), 6 * 50)
    domain = np.tile(np.repeat(np.arange(6), 50), 345)
    unit = rng.integers(0, 4096, (len(label), 20))
    cast = Votes(unit, rng.random(unit.shape).astype(np.float32))
    start = time.monotonic()
    share_classes(cast, label, domain, classes=345, domains=6, draws=0, permutations=0, seed=0)
    assert time.monotonic() - start < 15  # 2 on two cores of an AMD EPYC
