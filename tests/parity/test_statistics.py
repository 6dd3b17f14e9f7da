"""The statistics equal SciPy's and statsmodels', and literal resampling of classes, images and seeds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

from domix.evaluate import bootstrap, statistics

SHAPES = {  # images of each class, and which are right: few kinds of classes, many, one class, one image each
    "alike": (np.repeat(np.arange(60), 2), np.tile([True, False, True, True, False, False], 20)),
    "unlike": (np.repeat(np.arange(12), np.arange(1, 13)), np.arange(78) % 7 % 3 == 0),
    "one class": (np.zeros(9, dtype=np.int64), np.arange(9) < 4),
    "one image": (np.arange(40), np.arange(40) % 3 == 0),
}


def literal_draws(label, values, *, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw classes, then images of each, then seeds (columns), with literal lists; balanced and pooled."""
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(label == name) for name in np.unique(label)]
    balanced, pooled = [], []
    for _ in range(resamples):
        drawn = [members[k] for k in rng.integers(0, len(members), len(members))]
        drawn = [images[rng.integers(0, len(images), len(images))] for images in drawn]
        seeds = rng.integers(0, values.shape[1], values.shape[1])
        balanced.append(np.mean([values[images][:, seeds].mean() for images in drawn]))
        pooled.append(values[np.concatenate(drawn)][:, seeds].mean())
    return np.array(balanced), np.array(pooled)


@pytest.fixture(params=[7, 512])
def chunk(request, monkeypatch) -> None:
    """Few or many images that are drawn at once: several classes, or a part of all."""
    monkeypatch.setattr(bootstrap, "CHUNK", request.param)


def alike(first, second) -> bool:
    """Tell whether two samples look drawn from one distribution, up to rounding in float32."""
    return stats.ks_2samp(first.round(5), second.round(5)).pvalue > 1e-3


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("shape", SHAPES)
def test_both_bootstraps_are_drawing_classes_and_images(shape):
    label, right = SHAPES[shape]
    balanced, pooled = literal_draws(label, right[:, None], resamples=1000, seed=14)
    alone = bootstrap.bootstrap(label, right, resamples=4000, seed=3)
    assert alike(alone.balanced, balanced) and alike(alone.pooled, pooled)
    together = bootstrap.bootstrap_jointly(label, right[:, None], resamples=4000, seed=5)
    assert alike(together.balanced[:, 0], balanced) and alike(together.pooled[:, 0], pooled)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_spread_is_the_formulas(shape):
    """Var of the mean of K independent drawn classes: between classes, and of a class's n draws of its images."""
    label, right = SHAPES[shape]
    _, sizes = np.unique(label, return_counts=True)
    share = np.bincount(label, weights=right) / sizes
    expected = np.sqrt((share.var() + (share * (1 - share) / sizes).mean()) / len(sizes))
    made = bootstrap.bootstrap(label, right, resamples=20_000, seed=0).balanced
    assert made.mean() == pytest.approx(share.mean(), abs=4 * expected / np.sqrt(20_000))
    assert made.std() == pytest.approx(expected, rel=0.03)


def test_the_outcomes_of_a_drawn_class_are_those_of_every_possible_draw():
    label, right = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([1, 0, 0, 1, 0, 1, 0], dtype=bool)
    wanted: dict[tuple[int, int], float] = {}
    for name in range(3):
        mine = right[label == name]
        for picked in itertools.product(mine, repeat=len(mine)):
            key = (int(sum(picked)), len(mine))
            wanted[key] = wanted.get(key, 0.0) + 1 / 3 / len(mine) ** len(mine)
    made = bootstrap.class_outcomes(label, right)
    found = dict(zip(zip(made.right.tolist(), made.size.tolist(), strict=True), made.probability, strict=True))
    assert found == pytest.approx(wanted)


def test_both_ways_of_drawing_outcomes_agree(monkeypatch):
    label, right = SHAPES["alike"]
    counted = bootstrap.bootstrap(label, right, resamples=8000, seed=1)
    monkeypatch.setattr(bootstrap, "FEW", 1000)
    drawn = bootstrap.bootstrap(label, right, resamples=8000, seed=1)
    assert not np.array_equal(counted.balanced, drawn.balanced)
    assert alike(counted.balanced, drawn.balanced) and alike(counted.pooled, drawn.pooled)


def test_the_interval_is_scipys_where_classes_are_single_images():
    right = np.random.default_rng(2).random(120) < 0.4
    made = bootstrap.bootstrap(np.arange(120), right, resamples=20_000, seed=0)
    interval = statistics.percentile_interval(right.mean(), made.balanced, confidence=0.9, classes=120)
    theirs = stats.bootstrap((right.astype(float),), np.mean, confidence_level=0.9, method="percentile", rng=0)
    ends = theirs.confidence_interval
    assert (interval.low, interval.high) == (pytest.approx(ends.low, abs=0.01), pytest.approx(ends.high, abs=0.01))


def test_seeds_are_crossed_with_images():
    """Seeds that differ much, on images that all of them see: as literal drawing of both."""
    rng = np.random.default_rng(6)
    label = np.repeat(np.arange(15), 4)
    values = (rng.random((60, 3)) < np.array([0.2, 0.5, 0.9])).astype(float)
    resampled = bootstrap.bootstrap_jointly(label, values, resamples=4000, seed=10)
    over = bootstrap.over_seeds(resampled.balanced, seed=11)
    balanced, _ = literal_draws(label, values, resamples=1000, seed=12)
    assert alike(over, balanced)
    assert over.std() > 1.5 * resampled.balanced.mean(axis=1).std()  # seeds add to the spread of images


def test_one_seed_has_no_spread_of_seeds():
    resampled = np.random.default_rng(0).random((50, 1))
    assert np.array_equal(bootstrap.over_seeds(resampled, seed=0), resampled[:, 0])


def test_seeds_alone_spread_as_means_of_draws():
    estimates = np.array([0.1, 0.2, 0.6])
    over = bootstrap.over_seeds(np.tile(estimates, (20_000, 1)), seed=0)
    assert over.mean() == pytest.approx(0.3, abs=0.005)
    assert over.std() == pytest.approx(estimates.std() / np.sqrt(3), rel=0.03)
    assert not np.array_equal(over, bootstrap.over_seeds(np.tile(estimates, (20_000, 1)), seed=1))


def images_alone(seed: int) -> np.ndarray:
    """One class, so that nothing is drawn but its images."""
    right = np.arange(40)[:, None] % 2 == 0
    return bootstrap.bootstrap_jointly(np.zeros(40, np.int64), right, resamples=50, seed=seed).balanced


def classes_alone(seed: int) -> np.ndarray:
    """One image a class, so that nothing is drawn but classes."""
    right = np.arange(40)[:, None] % 2 == 0
    return bootstrap.bootstrap_jointly(np.arange(40), right, resamples=50, seed=seed).balanced


def outcomes(seed: int, few: int) -> np.ndarray:
    label, right = SHAPES["alike"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "FEW", few)
        return bootstrap.bootstrap(label, right, resamples=50, seed=seed).balanced


DRAWS = {
    "images of a class": images_alone,
    "classes": classes_alone,
    "counted outcomes": lambda seed: outcomes(seed, 0),
    "drawn outcomes": lambda seed: outcomes(seed, 1000),
    "seeds": lambda seed: bootstrap.over_seeds(np.tile([0.1, 0.2, 0.6], (50, 1)), seed=seed),
    "signs": lambda seed: statistics.sign_flip_test(np.arange(8), np.arange(8.0)[:, None] - 2, resamples=50, seed=seed),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_every_draw_follows_the_seed(draw):
    assert np.array_equal(draw(0), draw(0))
    assert len({draw(seed).tobytes() for seed in range(5)}) > 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.995]))
def test_clopper_pearson_is_scipys_and_statsmodels(n, share, confidence):
    right = round(n * share)
    low, high = statistics.clopper_pearson(right, n, confidence)
    theirs = stats.binomtest(right, n).proportion_ci(confidence, method="exact")
    assert (low, high) == (pytest.approx(theirs.low, abs=1e-9), pytest.approx(theirs.high, abs=1e-9))
    others = proportion_confint(right, n, alpha=1 - confidence, method="beta")
    assert (low, high) == (pytest.approx(others[0], abs=1e-9), pytest.approx(others[1], abs=1e-9))


def test_clopper_pearson_of_many_counts_at_once_and_of_none():
    low, high = statistics.clopper_pearson([0, 2, 5, 0], [5, 5, 5, 0], 0.95)
    for right, (bottom, top) in enumerate(zip(low[:2], high[:2], strict=True)):
        assert (bottom, top) == statistics.clopper_pearson(2 * right, 5, 0.95)
    assert (low[0], high[2]) == (0, 1)
    assert (low[3], high[3]) == (0, 1)


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_holms_correction_is_statsmodels(count):
    p_values = np.random.default_rng(count).random(count) ** 2
    expected = multipletests(p_values, method="holm")[1]
    np.testing.assert_allclose(statistics.holm(p_values), expected)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_the_detectable_difference_is_statsmodels_effect_size(confidence):
    """One image a class: the standard error is that of a mean, and the effect size counts deviations."""
    difference = np.random.default_rng(0).choice([-1.0, 0.0, 0.0, 1.0], 300)
    resampled = bootstrap.bootstrap_jointly(np.arange(300), difference[:, None], resamples=20_000, seed=0).balanced
    ours = statistics.detectable_difference(resampled[:, 0], confidence=confidence)
    power = NormalIndPower().solve_power(nobs1=300, alpha=1 - confidence, power=statistics.POWER, ratio=0)
    assert ours == pytest.approx(power * difference.std(), rel=0.03)


def test_a_detectable_difference_is_detected_four_times_in_five():
    """Studies of 200 classes whose truth is the detectable difference of a study of no difference."""
    rng, classes = np.random.default_rng(1), 200
    same = rng.choice([-1.0, 0.0, 1.0], (classes, 1), p=[0.2, 0.6, 0.2])
    resampled = bootstrap.bootstrap_jointly(np.arange(classes), same, resamples=4000, seed=0).balanced[:, 0]
    truth = statistics.detectable_difference(resampled, confidence=0.95)
    found = []
    for study in range(300):
        change = rng.choice([-1.0, 0.0, 1.0], (classes, 1), p=[0.2 - truth / 2, 0.6, 0.2 + truth / 2])
        drawn = bootstrap.bootstrap_jointly(np.arange(classes), change, resamples=300, seed=study).balanced[:, 0]
        interval = statistics.percentile_interval(
            float(change.mean()), drawn, confidence=0.95, classes=classes, least=-1
        )
        found.append(interval.low > 0)
    assert np.mean(found) == pytest.approx(statistics.POWER, abs=0.07)


def test_resamples_that_are_alike_say_nothing_of_what_is_detectable():
    assert np.isnan(statistics.detectable_difference(np.zeros(100), confidence=0.95))
