"""Metrics and statistics equal scikit-learn's and SciPy's, and slow obvious loops."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from domix.evaluate import bootstrap, metrics, statistics
from domix.evaluate.zeroshot import rank_true


@st.composite
def labelled(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels and predictions; some classes may not occur in either."""
    count, classes = draw(st.integers(1, 40)), draw(st.integers(1, 7))
    label = st.lists(st.integers(0, classes), min_size=count, max_size=count)
    return np.array(draw(label)), np.array(draw(label))


@settings(deadline=None)  # its first example imports and compiles
@given(labelled())
def test_metrics_equal_scikit_learns(pair):
    label, predicted = pair
    occurs = np.unique(label)
    right = label == predicted
    assert metrics.accuracy(right) == pytest.approx(sklearn.metrics.accuracy_score(label, predicted))
    recall = sklearn.metrics.recall_score(label, predicted, labels=occurs, average="macro", zero_division=0)
    assert metrics.balanced_accuracy(label, right) == pytest.approx(recall)
    f1 = sklearn.metrics.f1_score(label, predicted, labels=occurs, average="macro", zero_division=0)
    assert metrics.macro_f1(label, predicted) == pytest.approx(f1)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_ranks_give_scikit_learns_top_k_accuracy(k):
    rng = np.random.default_rng(k)
    image, text = rng.normal(size=(200, 8)).astype(np.float32), rng.normal(size=(9, 8)).astype(np.float32)
    label = rng.integers(0, 9, 200)
    predicted, rank = rank_true(image, text, label, block=37)
    expected = sklearn.metrics.top_k_accuracy_score(label, image @ text.T, k=k, labels=np.arange(9))
    assert (rank <= k).mean() == pytest.approx(expected)
    assert (predicted == (image @ text.T).argmax(axis=1)).all()


@settings(max_examples=30, deadline=None)
@given(labelled(), st.integers(0, 1000))
def test_the_bootstrap_measures_whole_draws_of_classes(pair, seed):
    """A column an image says how often that one was drawn; the other columns are then measured literally."""
    label, predicted = pair
    columns = np.stack([label == predicted, label <= predicted, label % 2 == 0], axis=1)
    own = np.eye(len(label))
    made = bootstrap.bootstrap_jointly(label, np.concatenate([own, columns], axis=1), resamples=20, seed=seed)
    names, sizes = np.unique(label, return_counts=True)
    size_of = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    for balanced, pooled in zip(made.balanced, made.pooled, strict=True):
        weights = len(names) * np.array([size_of[name] for name in label.tolist()])
        drawn = (balanced[: len(label)] * weights).round().astype(int)
        came = [drawn[label == name].sum() / size_of[name] for name in names.tolist()]
        assert sum(came) == len(names) and all(times == int(times) for times in came)
        for measure, column in enumerate(columns.T):
            shares = [(drawn * column)[label == name].sum() / size_of[name] for name in names.tolist()]
            assert balanced[len(label) + measure] == pytest.approx(sum(shares) / len(names), abs=1e-6)
            assert pooled[len(label) + measure] == pytest.approx((drawn * column).sum() / drawn.sum(), abs=1e-6)


def test_no_column_depends_on_the_others():
    rng = np.random.default_rng(0)
    label, values = rng.integers(0, 20, 90), rng.random((90, 5))
    whole = bootstrap.bootstrap_jointly(label, values, resamples=50, seed=1)
    for column in range(5):
        alone = bootstrap.bootstrap_jointly(label, values[:, [column]], resamples=50, seed=1)
        np.testing.assert_allclose(alone.balanced[:, 0], whole.balanced[:, column], atol=1e-6)
        np.testing.assert_allclose(alone.pooled[:, 0], whole.pooled[:, column], atol=1e-6)


def test_how_many_flips_are_in_memory_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    label, difference = rng.integers(0, 20, 90), rng.choice([-1.0, 0.0, 1.0], (90, 2))
    whole = statistics.sign_flip_test(label, difference, resamples=50, seed=1)
    monkeypatch.setattr(statistics, "BLOCK_CELLS", 300)
    assert np.array_equal(statistics.sign_flip_test(label, difference, resamples=50, seed=1), whole)


def test_the_spread_of_resamples_is_the_textbooks():
    """One image a class: classes are plain draws, and the standard error is that of a binomial share."""
    rng = np.random.default_rng(0)
    correct = (rng.random(400) < 0.3)[:, None]
    made = bootstrap.bootstrap_jointly(np.arange(400), correct, resamples=4000, seed=0)
    share = correct.mean()
    assert made.balanced.std() == pytest.approx(np.sqrt(share * (1 - share) / 400), rel=0.05)
    interval = statistics.percentile_interval(share, made.balanced[:, 0], confidence=0.95, classes=400)
    exact = stats.binomtest(int(correct.sum()), 400).proportion_ci(0.95, method="wilson")
    assert interval.low == pytest.approx(exact.low, abs=0.01)
    assert interval.high == pytest.approx(exact.high, abs=0.01)


def test_alike_images_of_a_class_widen_the_interval():
    """Ten images of a class that share one fate say no more than one image."""
    fate = np.random.default_rng(0).random(50) < 0.5
    one = bootstrap.bootstrap_jointly(np.arange(50), fate[:, None], resamples=2000, seed=0).balanced.std()
    ten = bootstrap.bootstrap_jointly(
        np.repeat(np.arange(50), 10), np.repeat(fate, 10)[:, None], resamples=2000, seed=0
    )
    assert ten.balanced.std() == pytest.approx(one, rel=0.05)


@pytest.mark.parametrize(("right", "wanted"), [(0, "high"), (40, "low")])
def test_a_collapsed_interval_is_replaced_by_scipys_exact_one(right, wanted):
    correct = np.full((40, 1), right == 40)
    made = bootstrap.bootstrap_jointly(np.arange(40), correct, resamples=200, seed=0)
    interval = statistics.percentile_interval(right / 40, made.balanced[:, 0], confidence=0.95, classes=40)
    exact = stats.binomtest(right, 40).proportion_ci(0.95, method="exact")
    assert interval.method == "clopper-pearson"
    assert (interval.low, interval.high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    assert 0 < getattr(interval, wanted) < 1


def test_two_models_that_agree_on_all_may_still_differ_a_little():
    interval = statistics.percentile_interval(0.0, np.zeros(100), confidence=0.95, classes=40, least=-1.0)
    assert interval.low == -interval.high and 0 < interval.high < 0.1
    assert interval.method == "clopper-pearson"


def test_the_sign_flip_test_equals_scipys_permutation_test():
    rng = np.random.default_rng(3)
    label = np.repeat(np.arange(12), rng.integers(1, 4, 12))
    difference = rng.choice([-1.0, 0.0, 1.0, 1.0], len(label))
    by_class = np.array([difference[label == k].mean() for k in range(12)])
    exact = stats.permutation_test((by_class,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    ours = statistics.sign_flip_test(label, difference[:, None], resamples=20_000, seed=0)
    assert ours[0] == pytest.approx(exact, abs=0.01)


def test_models_that_are_alike_get_p_one_and_unlike_ones_the_least_possible():
    label = np.repeat(np.arange(30), 2)
    both = np.stack([np.zeros(60), np.ones(60)], axis=1)
    made = statistics.sign_flip_test(label, both, resamples=500, seed=0)
    assert made.tolist() == [1, pytest.approx(1 / 501)]


def test_p_values_of_models_that_do_not_differ_are_even():
    rng = np.random.default_rng(5)
    values = [
        statistics.sign_flip_test(np.arange(60), rng.choice([-1.0, 0.0, 1.0], (60, 1)), resamples=400, seed=i)[0]
        for i in range(200)
    ]
    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.09
    assert 0.4 < np.mean(values) < 0.6


def slow_holm(p_values: list[float]) -> list[float]:
    """Reject one by one, smallest first, at falling strictness."""
    corrected, reached = {}, 0.0
    for step, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        reached = max(reached, (len(p_values) - step) * p_values[place])
        corrected[place] = min(1.0, reached)
    return [corrected[place] for place in range(len(p_values))]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_correction_equals_the_step_down_procedure(p_values):
    np.testing.assert_allclose(statistics.holm(np.array(p_values)), slow_holm(p_values))


def test_holms_correction_of_a_textbook_example():
    np.testing.assert_allclose(statistics.holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(statistics.holm(np.array([np.nan, 0.04, 0.03])), [np.nan, 0.06, 0.06])
