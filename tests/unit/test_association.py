"""Rank correlation among the classes of models: against scipy, and what its interval and test must notice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from domix.analyses.association import Association, associate
from domix.runtime.errors import DataError

OPTIONS = {"confidence": 0.95, "resamples": 400, "seed": 0}


def make(
    *, domains: int = 1, mixtures: int = 2, seeds: int = 1, classes: int = 40, slope: float = 1.0, seed: int = 0
) -> pd.DataFrame:
    """Classes whose accuracy follows `slope` times their score, which follows how well they are seen."""
    generator = np.random.default_rng(seed)
    rows = []
    for domain in range(domains):
        seen = generator.normal(size=classes)
        for mixture in range(mixtures):
            for number in range(seeds):
                score = seen + generator.normal(size=classes) + 100 * mixture
                accuracy = slope * score + generator.normal(size=classes) - 1000 * mixture
                rows += [
                    (f"d{domain}", f"m{mixture}", number, f"c{place}", *values)
                    for place, values in enumerate(zip(score, accuracy, seen, strict=True))
                ]
    return pd.DataFrame(rows, columns=["test_domain", "mixture", "seed", "class", "score", "accuracy", "seen"])


def found(units: pd.DataFrame, **changes: object) -> Association:
    return associate(units, **({"score": "score", "accuracy": "accuracy"} | OPTIONS | changes))


def test_the_estimate_is_the_mean_of_spearmans_correlations_of_the_models() -> None:
    units = make(domains=2, seeds=2)
    each = [stats.spearmanr(mine["score"], mine["accuracy"]).statistic for _, mine in units.groupby(
        ["test_domain", "mixture", "seed"]
    )]  # fmt: skip
    result = found(units)
    assert result.estimate == pytest.approx(np.mean(each), abs=1e-12)
    assert (result.models, result.classes) == (8, 80)
    assert result.low < result.estimate < result.high


def test_ties_have_mean_ranks_and_classes_that_a_model_lacks_do_not_count() -> None:
    units = make(mixtures=1).assign(accuracy=lambda t: (t["accuracy"] > 0) * 0.5)
    units.loc[3, "accuracy"] = np.nan
    rest = units.drop(index=3)
    assert found(units).estimate == pytest.approx(stats.spearmanr(rest["score"], rest["accuracy"]).statistic, abs=1e-12)


def test_a_partial_correlation_is_that_of_what_the_control_leaves() -> None:
    units = make(mixtures=1)
    x, y, z = (stats.rankdata(units[name]) for name in ("score", "accuracy", "seen"))

    def rest(values: np.ndarray) -> np.ndarray:
        return values - np.polyval(np.polyfit(z, values, 1), z)

    expected = stats.pearsonr(rest(x), rest(y)).statistic
    assert found(units, control="seen").estimate == pytest.approx(expected, abs=1e-9)


def test_what_only_follows_the_control_is_gone_once_that_is_held_fixed() -> None:
    units = make(classes=300, slope=0.0).assign(
        accuracy=lambda t: t["seen"] + np.random.default_rng(1).normal(size=600)
    )
    assert found(units).p < 0.01
    assert found(units, control="seen").p > 0.05


def test_differences_between_models_do_not_count() -> None:
    units = make(classes=100, slope=0.0)  # the mixture with the higher scores has by far the lower accuracy
    assert abs(found(units).estimate) < 0.3
    assert found(units).p > 0.05


def test_a_relation_is_found_and_its_interval_leaves_zero_out() -> None:
    result = found(make(slope=-1.0))
    assert result.high < 0
    assert result.p == pytest.approx(1 / 401)


def test_p_is_uniform_where_there_is_no_relation() -> None:
    p = [found(make(slope=0.0, classes=12, seed=seed), resamples=99).p for seed in range(100)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_models_of_one_test_domain_are_shuffled_together() -> None:
    """Copies of one model say no more than the model: were each shuffled alone, p would be far too small."""
    one = make(mixtures=1, classes=12, slope=0.4, seed=3)
    copies = pd.concat([one.assign(seed=number) for number in range(20)])
    assert found(copies).p == pytest.approx(found(one).p, abs=0.06)
    assert found(one).p > 0.02


def test_each_test_domain_is_left_out_in_turn() -> None:
    units = pd.concat([make(slope=3.0), make(slope=-3.0, seed=1).assign(test_domain="d1")])
    result = found(units)
    assert result.without["d1"] > 0.8
    assert result.without["d0"] < -0.8
    assert result.low < -0.5 < 0.5 < result.high  # drawn test domains: either may stand for both
    assert found(make()).without == {}


def test_a_score_that_does_not_vary_has_no_correlation() -> None:
    result = found(make().assign(score=1.0))
    assert np.isnan([result.estimate, result.low, result.high, result.p]).all()
    assert result.models == 0


def test_too_few_classes_and_classes_told_twice_are_named() -> None:
    with pytest.raises(DataError, match="no test domain has 4 classes with score and accuracy"):
        found(make(classes=3))
    with pytest.raises(DataError, match="class 'c0' of m0, seed 0, test domain d0, stands there twice"):
        found(pd.concat([make(), make().iloc[:1]]))
