"""The bootstrap of AUROC and FPR95 is literal resampling with the same draws; DeLong's variance; bad input."""

from __future__ import annotations

import numpy as np
import pytest

from domix.evaluate.statistics import BOOTSTRAP, CLOPPER_PEARSON
from domix.ood import resampling
from domix.ood.delong import delong
from domix.ood.metrics import CONVENTIONS, auroc, fpr95
from domix.ood.resampling import BLOCK, ID, Resampled, bootstrap_scores, draw_counts
from domix.runtime.errors import DataError, ParameterError

Scores = dict[str, np.ndarray]


def made(count: int, other: int, decimals: int) -> tuple[Scores, dict[str, Scores]]:
    rng = np.random.default_rng(count)
    inside = {name: rng.normal(1, 1, count).round(decimals) for name in ("a", "b")}
    outside = {
        name: {score: rng.normal(0, 1.5, other + extra).round(decimals) for score in inside}
        for extra, name in enumerate(("near", "far"))
    }
    return inside, outside


def drawn(count: int, name: str, resamples: int, seed: int) -> np.ndarray:
    """Return how often each image came in each resample [count, B]."""
    widths = [min(BLOCK, resamples - start) for start in range(0, resamples, BLOCK)]
    return np.concatenate(
        [draw_counts(count, width, seed=seed, name=name, block=block) for block, width in enumerate(widths)], axis=1
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(
    ("count", "other", "decimals"), [(20, 20, 0), (37, 11, 1), (200, 40, 1), (2, 2, 9), (400, 60, 9)]
)
def test_resamples_are_literal_ones(convention: str, count: int, other: int, decimals: int) -> None:
    inside, outside = made(count, other, decimals)
    found = bootstrap_scores(inside, outside, resamples=70, seed=3, convention=convention, workers=2)
    assert set(found) == {(score, name) for score in inside for name in outside}
    for (score, name), resampled in found.items():
        some, others = drawn(count, ID, 70, 3), drawn(len(outside[name][score]), name, 70, 3)
        for column in range(70):
            chosen = np.repeat(inside[score], some[:, column]), np.repeat(outside[name][score], others[:, column])
            assert resampled.aurocs[column] == pytest.approx(auroc(*chosen), abs=1e-12)
            assert resampled.fpr95s[column] == pytest.approx(fpr95(*chosen, convention=convention), abs=1e-12)
        assert resampled.auroc == auroc(inside[score], outside[name][score])
        assert resampled.fpr95 == fpr95(inside[score], outside[name][score], convention=convention)


def test_products_beyond_32_bits_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "CHUNK", 3)
    sums, rows = np.full((5, 2), 2**31, np.uint32), np.array([1, 2, 3, 4])
    counts = np.ones((4, 2), np.uint32)
    assert resampling._total(sums, rows, counts).tolist() == [4.0 * 2**31] * 2


@pytest.mark.parametrize("count", [65_535, 65_536, 70_000])
def test_counts_of_large_sets_do_not_overflow(count: int) -> None:
    counts = drawn(count, "x", 2, 1)
    sums = resampling.running(counts)
    assert sums[-1].tolist() == [count] * 2
    assert resampling.Prefixes(counts).at(np.full(2, count)).tolist() == [count] * 2


def test_as_many_images_are_drawn_as_there_are_each_as_likely() -> None:
    counts = drawn(30, "x", 2000, 1)
    assert counts.shape == (30, 2000) and (counts.sum(axis=0) == 30).all()
    assert abs(counts.mean(axis=1) - 1).max() < 0.1
    assert counts.var() == pytest.approx(1 - 1 / 30, abs=0.03)
    other = drawn(30, "y", 2000, 1)
    assert not np.array_equal(counts, other)
    assert not np.array_equal(counts, drawn(30, "x", 2000, 2))
    assert not np.array_equal(counts[:, :BLOCK], counts[:, BLOCK : 2 * BLOCK])


def test_draws_are_the_same_for_all_scores_and_whatever_else_is_resampled() -> None:
    inside, outside = made(60, 30, 9)
    both = bootstrap_scores(inside, outside, resamples=130, seed=4)
    alone = bootstrap_scores({"b": inside["b"]}, {"far": outside["far"]}, resamples=130, seed=4, workers=2)
    assert np.array_equal(both["b", "far"].aurocs, alone["b", "far"].aurocs)
    twin = bootstrap_scores(
        {"a": inside["a"], "twin": 2 * inside["a"]},
        {"far": {"a": outside["far"]["a"], "twin": 2 * outside["far"]["a"]}},
        resamples=130,
        seed=4,
    )
    assert np.array_equal(twin["a", "far"].fpr95s, twin["twin", "far"].fpr95s)


def test_intervals_are_percentiles_and_exact_bounds_where_resamples_agree() -> None:
    rng = np.random.default_rng(0)
    inside, outside = {"a": rng.normal(1, 1, 300)}, {"x": {"a": rng.normal(0, 1, 200)}}
    found = bootstrap_scores(inside, outside, resamples=1000, seed=0)["a", "x"]
    interval = found.interval("auroc", 0.9)
    assert interval.method == BOOTSTRAP and interval.estimate == found.auroc
    assert (interval.low, interval.high) == pytest.approx(np.quantile(found.aurocs, [0.05, 0.95]))
    rate = found.interval("fpr95", 0.95)
    assert rate.low < found.fpr95 < rate.high and rate.estimate == found.fpr95
    apart = bootstrap_scores(inside, {"x": {"a": np.full(7, -99.0)}}, resamples=50, seed=0)["a", "x"]
    assert apart.auroc == 1.0 and apart.fpr95 == 0.0
    bound = apart.interval("auroc", 0.95)
    assert bound.method == CLOPPER_PEARSON and bound.low == pytest.approx(0.025 ** (1 / 7))
    assert apart.interval("fpr95", 0.95).high == pytest.approx(1 - 0.025 ** (1 / 7))


def test_delong_agrees_with_the_bootstrap_and_with_its_definition() -> None:
    rng = np.random.default_rng(2)
    inside, outside = rng.normal(0.5, 1, (3, 150)).round(1), rng.normal(0, 1, (3, 90)).round(1)
    inside[1] += inside[0]
    areas, covariance = delong(inside, outside)
    wins = (inside[:, :, None] > outside[:, None]) + 0.5 * (inside[:, :, None] == outside[:, None])
    assert np.allclose(areas, [auroc(*pair) for pair in zip(inside, outside, strict=True)])
    assert np.allclose(covariance, np.cov(wins.mean(axis=2)) / 150 + np.cov(wins.mean(axis=1)) / 90)
    found = bootstrap_scores(
        {str(i): row for i, row in enumerate(inside)},
        {"x": {str(i): row for i, row in enumerate(outside)}},
        resamples=4000,
    )
    resampled = np.cov([found[str(i), "x"].aurocs for i in range(3)])
    assert np.allclose(resampled, covariance, atol=0.08 * covariance.max())
    assert delong(inside[:1], outside[:1])[1].shape == (1, 1)


def test_sets_that_cannot_be_resampled_are_told() -> None:
    inside, outside = made(30, 20, 9)
    with pytest.raises(DataError, match=r"^the set near has one image: an interval needs two at least$"):
        bootstrap_scores(inside, {"near": {name: values[:1] for name, values in outside["near"].items()}})
    with pytest.raises(DataError, match=r"^the scores a of the set near are empty: give a set with images$"):
        bootstrap_scores(inside, {"near": {name: values[:0] for name, values in outside["near"].items()}})
    with pytest.raises(DataError, match=r"^the set near lacks the score b, which the ID images have$"):
        bootstrap_scores(inside, {"near": {"a": outside["near"]["a"]}})
    with pytest.raises(DataError, match=r"^the scores of the set in-distribution are not of as many images each: give"):
        bootstrap_scores({"a": inside["a"], "b": inside["b"][1:]}, outside)
    with pytest.raises(DataError, match=r"^no scores are given: there is nothing to resample$"):
        bootstrap_scores({}, {})
    with pytest.raises(ParameterError, match=r"^there is no convention 'x' of FPR95, but plp, mcm, openood$"):
        bootstrap_scores(inside, outside, convention="x")
    with pytest.raises(ParameterError, match=r"^0 resamples are asked for: give a number from 1$"):
        bootstrap_scores(inside, outside, resamples=0)
    with pytest.raises(DataError, match=r"^a set has one image: a variance needs two at least$"):
        delong(np.ones((1, 1)), np.ones((1, 5)))
    with pytest.raises(DataError, match=r"^the scores are of shapes \(2, 5\) and \(1, 5\): give one row a score"):
        delong(np.ones((2, 5)), np.ones((1, 5)))
    assert Resampled(0.5, 0.5, np.array([0.4, 0.6]), np.array([0.5, 0.7]), 2).interval("fpr95", 0.5).estimate == 0.5
