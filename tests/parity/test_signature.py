"""Signatures against SciPy, published definitions taken literally, and numbers worked out beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from domix.evaluate.metrics import accuracy
from domix.signature.directions import cosines, effective_rank, head_directions, head_importance, heavy_tail, importance
from domix.signature.kurtosis import activation_kurtosis, summarise
from domix.signature.outliers import large_features, outlier_features, scaled_deviations, stand_out
from domix.signature.pruning import PERCENT, correct_when_pruned, kept_count, pruned_head, pruning_order

NORMAL = np.random.default_rng(0).standard_normal((1000, 512))


def head_and_activations() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    head, activations = rng.standard_normal((50, 16)), rng.standard_normal((500, 16))
    activations[:, 3] += 8
    return head, activations


def test_kurtosis_is_scipys() -> None:
    values = np.random.default_rng(1).gamma(2.0, size=(1500, 40)).astype(np.float32)  # more than a block
    want = scipy.stats.kurtosis(values.astype(np.float64), axis=1, fisher=False, bias=True)
    np.testing.assert_allclose(activation_kurtosis(values), want, rtol=1e-10)
    np.testing.assert_allclose(activation_kurtosis([values[:700], values[700:]]), want, rtol=1e-10)
    over = summarise(want)
    assert over.mean == pytest.approx(want.mean()) and over.median == pytest.approx(np.median(want))
    assert over.standard_error == pytest.approx(scipy.stats.sem(want)) and over.images == 1500
    assert np.isnan(summarise([3.0]).standard_error)


def test_kurtosis_of_known_activations() -> None:
    assert activation_kurtosis(NORMAL).mean() == pytest.approx(2.9933, abs=5e-5)
    moved = NORMAL.copy()
    moved[:, 7] += 20
    assert activation_kurtosis(moved).mean() == pytest.approx(99.39, abs=5e-3)


@pytest.mark.parametrize(("width", "most"), [(512, 510.0), (768, 766.0), (1024, 1022.0), (2048, 2046.0)])
def test_kurtosis_lies_between_its_bounds(width: int, most: float) -> None:
    alone = np.zeros((1, width))
    alone[0, 3] = -2.5
    found = activation_kurtosis(alone)[0]
    assert found == pytest.approx(width - 2 + 1 / (width - 1)) and found == pytest.approx(most, abs=0.01)
    assert activation_kurtosis(np.tile([1.0, -1.0], (1, width // 2)))[0] == pytest.approx(1)


def test_outlier_features_are_those_of_the_definition() -> None:
    values = NORMAL.astype(np.float32)
    values[:, [9, 300]] += (20, -15)
    found = outlier_features(values)
    means = abs(values.astype(np.float64)).mean(axis=0)
    assert found.indices.tolist() == [9, 300]
    np.testing.assert_allclose(found.mean_absolute, means)
    assert found.threshold == pytest.approx(means.mean() + 6 * means.std(ddof=0))
    squares = values.astype(np.float64) ** 2
    assert found.norm_share == pytest.approx((squares[:, [9, 300]].sum(axis=1) / squares.sum(axis=1)).mean())
    assert outlier_features(values, 16.0).indices.tolist() == [9]
    assert outlier_features(NORMAL).indices.tolist() == [] and outlier_features(NORMAL).norm_share == 0


def test_narrow_activations_have_a_threshold_that_can_be_passed() -> None:
    assert scaled_deviations(38) == scaled_deviations(1024) == 6
    assert scaled_deviations(37) == pytest.approx(6 * np.sqrt(36 / 37)) and scaled_deviations(1) == 0
    assert scaled_deviations(11, 3.0) == 3 and scaled_deviations(10, 3.0) == pytest.approx(3 * np.sqrt(9 / 10))
    for width in (2, 5, 16, 37, 38, 512):
        alone = np.zeros(width)
        alone[1] = 1
        assert stand_out(alone)[0].tolist() == [1], width
    assert stand_out(np.full(64, 0.1))[0].tolist() == []


def test_large_features_are_those_of_language_models() -> None:
    values = np.zeros((4, 5))
    values[:3, 1], values[:, 2], values[:2, 3], values[:, 4] = -6.0, 7.0, 100.0, 5.9
    assert large_features(values).tolist() == [1, 2]
    assert large_features(values, magnitude=5.9, share=0.5).tolist() == [1, 2, 3, 4]


def test_importance_of_known_directions() -> None:
    head, activations = head_and_activations()
    directions, found = head_directions(head), head_importance(head, activations)
    np.testing.assert_allclose(directions.singular_values[:3], [10.6849, 9.9272, 9.1469], atol=5e-5)
    np.testing.assert_allclose(np.sort(found)[::-1][:3], [3.6398, 3.0296, 2.3803], atol=5e-5)
    assert found.argmax() == 1 and abs(directions.right[1, 3]) == pytest.approx(0.4065, abs=5e-5)
    assert heavy_tail(found).max_to_mean == pytest.approx(2.6582, abs=5e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_importance_is_the_definition_taken_literally(dtype: type) -> None:
    head, activations = head_and_activations()
    activations = np.tile(activations, (5, 1)).astype(dtype)  # more than a block
    _, values, right = np.linalg.svd(head, full_matrices=False)
    each = [[v @ h / np.linalg.norm(h) / np.linalg.norm(v) for h in activations.astype(np.float64)] for v in right]
    tight = 1e-10 if dtype is np.float64 else 1e-5
    np.testing.assert_allclose(
        head_importance(head, activations), values * abs(np.array(each)).mean(axis=1), rtol=tight
    )
    signed = values * abs(np.array(each).mean(axis=1))
    np.testing.assert_allclose(head_importance(head, activations, "mean_abs"), signed, rtol=tight, atol=tight)
    along, mean = cosines(head_directions(head), activations), activations.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(along.with_mean, abs(right @ mean) / np.linalg.norm(mean), rtol=tight)
    np.testing.assert_allclose(importance(values, along), values * along.absolute)


def test_the_tail_is_that_of_scipy() -> None:
    values = np.random.default_rng(2).gamma(0.5, size=60)
    values[4] = 40.0
    found = heavy_tail(values)
    assert found.kurtosis == pytest.approx(scipy.stats.kurtosis(values, fisher=False))
    assert found.effective_rank == pytest.approx(np.exp(scipy.stats.entropy(values)))
    assert (found.top, found.standing_out) == (40.0, 1) and found.max_to_mean == pytest.approx(40 / values.mean())
    assert effective_rank([2.0, 2.0, 0.0, 2.0]) == pytest.approx(3)
    assert np.isnan(heavy_tail([1.0, 1.0, 1.0]).kurtosis)


@pytest.mark.parametrize("biased", [False, True])
def test_pruning_is_that_of_the_pruned_heads_one_by_one(biased: bool) -> None:
    rng = np.random.default_rng(3)
    head, activations, labels = rng.normal(size=(30, 24)), rng.normal(size=(2500, 24)), rng.integers(0, 30, 2500)
    activations += 2 * head[labels]
    bias = 3 * rng.normal(size=30) if biased else None
    directions = head_directions(head)
    order = pruning_order(head_importance(head, activations))
    shuffled = [50, 0, 99, 10, 90, 100]
    for percent in (PERCENT, shuffled):
        correct = correct_when_pruned(directions, activations, labels, order, percent, bias=bias)
        for share, found in zip(percent, correct, strict=True):
            kept = order[24 - kept_count(24, share) :]
            scores = activations @ pruned_head(directions, kept).T + (0 if bias is None else bias)
            if share < 100:
                np.testing.assert_array_equal(found, scores.argmax(axis=1) == labels, err_msg=str(share))
    if not biased:
        assert not correct[-1].any()  # nothing is left: all scores are equal
    np.testing.assert_allclose(pruned_head(directions, order), head, atol=1e-12)
    assert accuracy(correct[1]) > 0.9
