"""Does sharing predict accuracy: the relation over the held-out classes, and what the page says of it."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from domix.figures.page import svg
from domix.report.load.study import Results, load_results
from domix.report.page import claim
from domix.report.tables.claim import class_accuracies, relations
from tests.fake_report import Fake

MIXTURES = ["natural-only", "cg-high"]
OPTIONS = {"resamples": 200, "seed": 0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Results:
    fake = Fake(tmp_path_factory.mktemp("claim"), mixtures=MIXTURES, accuracy=dict.fromkeys(MIXTURES, (0.5, 0.6, 0.7)))
    return load_results(fake.write(), fake.mixtures, fake.seeds, 0.95)


def scores(study: Results, sign: float, noise: float = 0.02, seed: int = 0) -> pd.DataFrame:
    """Scores that follow the accuracy of each class, those of classes that were not held out among them."""
    rows = study.per_class[study.per_class["domain"] == study.test_domain]
    moved = rows["accuracy"] * sign + np.random.default_rng(seed).normal(0, noise, len(rows))
    return rows[["mixture", "seed", "class"]].assign(score=moved).reset_index(drop=True)


def test_only_held_out_classes_of_the_test_domain_count(study: Results) -> None:
    found = class_accuracies(study)
    assert set(found["class"]) == set(study.test_classes)
    assert len(found) == len(MIXTURES) * len(study.test_classes)
    one = found.iloc[0]
    rows = study.per_class[
        (study.per_class["class"] == one["class"]) & (study.per_class["mixture"] == one["mixture"])
    ].set_index("domain")["accuracy"]
    assert one["accuracy"] == rows[study.test_domain]
    assert one["seen"] == pytest.approx(rows.drop(study.test_domain).mean())


def test_the_relation_is_the_mean_of_the_models_correlations(study: Results) -> None:
    frame = scores(study, 1.0, noise=0.5)
    found = relations(study, {"features": frame}, **OPTIONS).set_index("way")
    units = class_accuracies(study).merge(frame, on=["mixture", "seed", "class"])
    each = [stats.spearmanr(mine["score"], mine["accuracy"]).statistic for _, mine in units.groupby("mixture")]
    assert found.loc["plain", "estimate"] == pytest.approx(np.mean(each))
    assert found.loc["plain", ["models", "classes"]].tolist() == [len(MIXTURES), len(study.test_classes)]


def test_p_values_are_corrected_over_the_scores(study: Results) -> None:
    chance = scores(study, 0.0, noise=1.0)
    found = relations(study, {"features": scores(study, 1.0), "nodes": chance, "edges": chance}, **OPTIONS)
    plain = found[found["way"] == "plain"].set_index("score")
    assert plain.loc["features", "p_holm"] == pytest.approx(3 * plain.loc["features", "p_value"])


@pytest.mark.parametrize(("sign", "word"), [(1.0, "better"), (-1.0, "worse")])
def test_the_page_says_which_way_the_relation_goes(study: Results, sign: float, word: str) -> None:
    frames = {"features": scores(study, sign), "circuits": scores(study, 0.0, noise=1.0, seed=5)}
    section = claim.section(study, frames, **OPTIONS)
    assert section is not None
    text = section.parts[0].text
    assert f"Among classes, a model reads those {word} in which it shares more features." in text
    assert "Among classes, sharing of circuits is not shown to predict accuracy." in text
    assert section.metrics["features.plain_estimate"] == pytest.approx(sign * 0.9, abs=0.12)
    assert f"(2 models: features and circuits of {len(study.test_classes)} classes.)" in text
    assert "circuits.partial_p_holm" in section.metrics


def test_without_scores_or_with_too_few_classes_the_page_says_nothing(study: Results) -> None:
    assert claim.section(study, {}, **OPTIONS) is None
    few = scores(study, 1.0).groupby("mixture").head(2)
    assert claim.section(study, {"features": few}, **OPTIONS) is None


def test_its_figures_show_every_score_plain_and_partial(study: Results) -> None:
    section = claim.section(study, {"features": scores(study, 1.0), "nodes": scores(study, -1.0)}, **OPTIONS)
    assert section is not None
    figures = section.parts[0].figures
    assert list(figures) == ["Among all held-out classes", "At equal accuracy elsewhere"]
    for figure in figures.values():
        assert {"features", "nodes", "Spearman's correlation"} <= set(re.findall(r">([^<>]+)</text>", svg(figure)))
