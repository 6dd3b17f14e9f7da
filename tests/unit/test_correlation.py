"""How two numbers of models go together: known answers, independent libraries, intervals, families, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from domix.ood.correlation import STATISTICS, band, correlate, lines, partial_correlation
from domix.runtime.errors import DataError


def noisy(count: int = 30, noise: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = generator.uniform(0.2, 0.9, count)
    return x, 0.5 + 0.4 * x + generator.normal(0, noise, count)


def estimates(x: object, y: object) -> dict[str, float]:
    return {name: part.estimate for name, part in correlate(x, y, resamples=5).statistics.items()}  # ty: ignore[invalid-argument-type]


def test_a_line_is_found_exactly() -> None:
    found = estimates([1, 2, 4, 8], [5, 3, -1, -9])
    assert found == pytest.approx({"r2": 1, "slope": -2, "intercept": 7, "pearson": -1, "spearman": -1})
    curved = estimates([1, 2, 3, 4], [1, 10, 100, 1000])
    assert curved["spearman"] == pytest.approx(1) and curved["pearson"] < 0.9
    assert correlate([1, 2, 4, 8], [5, 3, -1, -9], resamples=5).expected([0, 10]).tolist() == pytest.approx([7, -13])


def test_numbers_are_scipys() -> None:
    x, y = noisy()
    x[3], y[7] = x[4], y[8]  # ties have mean ranks
    found = estimates(x, y)
    line = scipy.stats.linregress(x, y)
    assert found["slope"] == pytest.approx(line.slope, rel=1e-12)
    assert found["intercept"] == pytest.approx(line.intercept, rel=1e-12)
    assert found["pearson"] == pytest.approx(scipy.stats.pearsonr(x, y).statistic, rel=1e-12)
    assert found["r2"] == pytest.approx(line.rvalue**2, rel=1e-12)
    assert found["spearman"] == pytest.approx(scipy.stats.spearmanr(x, y).statistic, rel=1e-12)


def test_intervals_are_the_bootstraps_over_models() -> None:
    x, y = noisy(25)
    found = correlate(x, y, confidence=0.9, resamples=20_000)
    pairs = {"r2": lambda a, b: np.corrcoef(a, b)[0, 1] ** 2, "slope": lambda a, b: np.polyfit(a, b, 1)[0]}
    pairs |= {"spearman": lambda a, b: scipy.stats.spearmanr(a, b).statistic}
    for name, statistic in pairs.items():
        options = {"paired": True, "vectorized": False, "n_resamples": 2000, "method": "percentile"}
        asked = scipy.stats.bootstrap((x, y), statistic, confidence_level=0.9, rng=np.random.default_rng(3), **options)
        ends = found.statistics[name].intervals["models"]
        width = asked.confidence_interval.high - asked.confidence_interval.low
        assert ends == pytest.approx(tuple(asked.confidence_interval), abs=0.12 * width)
    wider = correlate(x, y, confidence=0.99, resamples=20_000).statistics["slope"].intervals["models"]
    narrow = found.statistics["slope"].intervals["models"]
    assert wider[0] < narrow[0] < 0.4 < narrow[1] < wider[1]
    assert correlate(x, y) == correlate(x, y, confidence=0.95, resamples=10_000, seed=0)
    again = correlate(x, y, confidence=0.9, resamples=20_000)
    assert again == found and correlate(x, y, confidence=0.9, resamples=20_000, seed=1) != found


def test_resampled_images_have_intervals_of_their_own() -> None:
    x, y = noisy(12, noise=0.0)
    generator = np.random.default_rng(5)
    y_images = y + generator.normal(0, 0.02, (4000, 12))
    found = correlate(x, y, y_images=y_images)
    slope = found.statistics["slope"]
    assert set(slope.intervals) == {"images", "models", "both"} and slope.estimate == pytest.approx(0.4)
    spread = 0.02 / np.sqrt(((x - x.mean()) ** 2).sum())  # of a slope by least squares, whose x are known
    assert slope.intervals["images"] == pytest.approx((0.4 - 1.96 * spread, 0.4 + 1.96 * spread), abs=0.1 * spread)
    low, high = slope.intervals["models"]
    assert low == pytest.approx(high)  # without noise any models lie on the line
    both = slope.intervals["both"]
    assert both[0] < slope.intervals["images"][0] and both[1] > slope.intervals["images"][1]
    turned = correlate(y, x, x_images=y_images).statistics["pearson"]
    assert turned.intervals["images"] == pytest.approx(found.statistics["pearson"].intervals["images"])
    alike = correlate(x, y, x_images=y_images, y_images=2 * y_images + 1).statistics["slope"]
    assert alike.intervals["images"] == pytest.approx((2, 2))  # row by row from the same images


def test_each_family_is_left_out_in_turn() -> None:
    x, y = noisy(9, noise=0.0)
    y[:3] += [0.3, -0.2, 0.25]
    found = correlate(x, y, families=["odd"] * 3 + ["a"] * 4 + ["b"] * 2, resamples=5)
    assert list(found.without) == ["odd", "a", "b"] and found.models == 9
    assert found.without["odd"]["r2"] == pytest.approx(1) and found.without["odd"]["slope"] == pytest.approx(0.4)
    assert found.without["b"]["r2"] == pytest.approx(np.corrcoef(x[:7], y[:7])[0, 1] ** 2)
    assert np.isnan(list(correlate(x, y, families=["all"] * 9, resamples=5).without["all"].values())).all()
    assert correlate(x, y, resamples=5).without == {}


def test_what_does_not_vary_has_no_correlation() -> None:
    flat = estimates([1, 2, 3], [0.1, 0.1, 0.1])
    assert flat["slope"] == 0 and flat["intercept"] == pytest.approx(0.1)
    assert all(np.isnan(flat[name]) for name in ("r2", "pearson", "spearman"))
    rows = lines(np.array([[1.0, 1, 1, 2], [1, 2, 3, 3]]), np.array([[5.0, 5, 5, 7], [5, 7, 6, 6]]))
    assert all(np.isnan(rows[name][0]) and np.isfinite(rows[name][1]) for name in STATISTICS)  # two points, and three


def test_few_models_have_no_interval_over_models() -> None:
    x, y = noisy(5)
    four = correlate(x[:4], y[:4], y_images=np.tile(y[:4], (20, 1)), resamples=100).statistics["r2"]
    assert np.isnan(four.intervals["models"]).all() and np.isnan(four.intervals["both"]).all()
    assert four.intervals["images"] == pytest.approx((four.estimate, four.estimate))
    assert np.isfinite(correlate(x, y, resamples=100).statistics["r2"].intervals["models"]).all()
    assert np.isnan(band(x[:4], y[:4], [0.5])).all()


def test_what_does_not_vary_has_no_band() -> None:
    assert np.isnan(band([0.5] * 8, range(8), [0.5, 0.6])).all()


def test_the_band_is_that_of_lines_through_other_models() -> None:
    x, y = noisy(25)
    low, high = band(x, y, [0.0, x.mean()], confidence=0.9, resamples=8000)
    ends = correlate(x, y, confidence=0.9, resamples=8000).statistics["intercept"].intervals["models"]
    assert (low[0], high[0]) == pytest.approx(ends)
    assert high[1] - low[1] < 0.5 * (high[0] - low[0])
    assert low[1] < y.mean() < high[1]
    assert band(x, y, [0.3]) == band(x, y, [0.3], confidence=0.95, resamples=10_000, seed=0)


@pytest.mark.parametrize(
    ("x", "y", "families", "said"),
    [
        ([1, 2, 3], [1, 2], None, "there are 3 x, 2 y: give one of each for every model"),
        ([1, 2, 3], [1, 2, 3], ["a"], "there are 3 x, 3 y, 1 families"),
        ([1, 2], [1, 2], None, "a correlation needs at least 3 models, but there are 2"),
        ([0.5, 0.5, 0.5], [1, 2, 3], None, "all 3 models have the same x, 0.5"),
        ([1, 2, np.nan], [1, 2, 3], None, "x of model 2 is nan: leave the model out"),
        ([1, 2, 3], [1, np.inf, 3], None, "y of model 1 is inf: leave the model out"),
        ([[1, 2, 3]], [1, 2, 3], None, r"x is of the shape \(1, 3\): give one number a model"),
    ],
)
def test_what_makes_no_correlation_is_said(x: list, y: list, families: list[str] | None, said: str) -> None:
    with pytest.raises(DataError, match=said):
        correlate(x, y, families=families)


def test_resampled_values_must_fit() -> None:
    x, y = noisy(5)
    with pytest.raises(DataError, match=r"are of the shape \(7, 4\): give \[resamples, 5 models\]"):
        correlate(x, y, y_images=np.ones((7, 4)))
    with pytest.raises(DataError, match=r"are of the shape \(7, 5\) and \(6, 5\)"):
        correlate(x, y, x_images=np.ones((7, 5)), y_images=np.ones((6, 5)))
    with pytest.raises(DataError, match="values of resampled images are not all finite"):
        correlate(x, y, x_images=np.full((7, 5), np.nan))


def test_partial_correlations_hold_a_third_number_fixed() -> None:
    assert partial_correlation(0.5, 0.6, 0.7) == pytest.approx((0.5 - 0.42) / np.sqrt(0.64 * 0.51))
    assert partial_correlation(0.5, np.nan, 0.7) == pytest.approx(0.5 / np.sqrt(0.51))  # what does not vary
    assert np.isnan(partial_correlation(0.3, np.nextafter(1, 0), 0.3))  # told whole, but for rounding
    x, y = noisy()
    z = np.random.default_rng(5).normal(size=30)
    found = correlate(x, y, control=z, families=["a"] * 15 + ["b"] * 15, resamples=200)
    rests = [part - np.polyval(np.polyfit(z, part, 1), z) for part in (x, y)]
    assert found.statistics["partial pearson"].estimate == pytest.approx(np.corrcoef(*rests)[0, 1])
    low, high = found.statistics["partial pearson"].intervals["models"]
    assert low < found.statistics["partial pearson"].estimate < high
    half = correlate(x[15:], y[15:], control=z[15:], resamples=5)
    assert found.without["a"]["partial spearman"] == pytest.approx(half.statistics["partial spearman"].estimate)
    three = correlate([1, 2, 4], [2, 1, 5], control=[1, 5, 2], resamples=5).statistics
    assert np.isnan(three["partial pearson"].estimate)  # of three models a partial correlation is perfect
    with pytest.raises(DataError, match=r"^there are 30 x, but 3 numbers held fixed: give one for every model"):
        correlate(x, y, control=[1, 2, 3])
