"""Does sharing predict accuracy: the relation over the held-out classes, and what the page says of it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from domix.figures.page import svg
from domix.report.load.study import Results, load_results
from domix.report.page import claim
from domix.report.tables.claim import SCORES, class_accuracies, relations, scored
from tests.fake_report import Fake

MIXTURES = ["natural-only", "cg-high"]
OPTIONS = {"resamples": 200, "seed": 0}
CONFIDENCE = 0.95


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Results:
    fake = Fake(tmp_path_factory.mktemp("claim"), mixtures=MIXTURES, accuracy=dict.fromkeys(MIXTURES, (0.5, 0.6, 0.7)))
    return load_results(fake.write(), fake.mixtures, fake.seeds, 0.95)


def scores(study: Results, sign: float, noise: float = 0.02, seed: int = 0) -> pd.DataFrame:
    """Scores that follow the accuracy of each class, those of classes that were not held out among them."""
    rows = study.per_class[study.per_class["domain"] == study.test_domain]
    moved = rows["accuracy"] * sign + np.random.default_rng(seed).normal(0, noise, len(rows))
    return rows[["mixture", "seed", "class"]].assign(score=moved).reset_index(drop=True)


def related(study: Results, frames: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The relations of one study's scores, among classes."""
    units = scored(study, frames, {}).assign(test_domain=study.test_domain)
    return relations(units[units["class"] != ""], confidence=CONFIDENCE, **OPTIONS)


def made(domains: int, mixtures: int, sign: float = 1.0, seeds: int = 2) -> pd.DataFrame:
    """Scores of models, which differ most between test domains, and whose accuracy follows them within each."""
    generator = np.random.default_rng(0)
    rows = [
        (
            "clip",
            f"m{mixture}",
            seed,
            "CKA",
            "",
            mixture + 9.0 * domain,
            sign * mixture - 50 * domain,
            0.0,
            f"d{domain}",
        )
        for domain in range(domains)
        for seed in range(seeds)
        for mixture in range(mixtures)
    ]
    frame = pd.DataFrame(rows, columns=[*SCORES.names, "test_domain"])
    return frame.assign(seen=generator.normal(size=len(frame)))


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
    found = related(study, {"features": frame}).set_index("way")
    units = class_accuracies(study).merge(frame, on=["mixture", "seed", "class"])
    each = [stats.spearmanr(mine["score"], mine["accuracy"]).statistic for _, mine in units.groupby("mixture")]
    assert found.loc["plain", "estimate"] == pytest.approx(np.mean(each))
    assert found.loc["plain", ["models", "units"]].tolist() == [len(MIXTURES), len(study.test_classes)]


def test_p_values_are_corrected_over_the_scores(study: Results) -> None:
    chance = scores(study, 0.0, noise=1.0)
    found = related(study, {"features": scores(study, 1.0), "nodes": chance, "edges": chance})
    plain = found[found["way"] == "plain"].set_index("score")
    assert plain.loc["features", "p_holm"] == pytest.approx(3 * plain.loc["features", "p_value"])


@pytest.mark.parametrize(("sign", "word"), [(1.0, "better"), (-1.0, "worse")])
def test_the_page_says_which_way_the_relation_goes(study: Results, sign: float, word: str) -> None:
    frames = {"features": scores(study, sign), "circuits": scores(study, 0.0, noise=1.0, seed=5)}
    section = claim.section(study, scored(study, frames, {}), **OPTIONS)
    assert section is not None
    text = section.parts[0].text
    assert f"Among classes, a model reads those {word} in which it shares more features." in text
    assert "Among classes, sharing of circuits is not shown to predict accuracy." in text
    assert section.metrics["features.plain_estimate"] == pytest.approx(sign * 0.9, abs=0.12)
    assert f"(2 models: features and circuits of {len(study.test_classes)} classes.)" in text
    assert "circuits.partial_p_holm" in section.metrics


def test_without_scores_or_with_too_few_classes_the_page_says_nothing(study: Results) -> None:
    assert claim.section(study, scored(study, {}, {}), **OPTIONS) is None
    few = scores(study, 1.0).groupby("mixture").head(2)
    assert claim.section(study, scored(study, {"features": few}, {}), **OPTIONS) is None


def test_its_figures_show_every_score_plain_and_partial(study: Results) -> None:
    frames = {"features": scores(study, 1.0), "nodes": scores(study, -1.0)}
    section = claim.section(study, scored(study, frames, {}), **OPTIONS)
    assert section is not None
    figures = section.parts[0].figures
    assert list(figures) == ["Among all held-out classes", "At equal accuracy elsewhere"]
    for figure in figures.values():
        assert {"features", "nodes", "Spearman's correlation"} <= set(re.findall(r">([^<>]+)</text>", svg(figure)))


def test_scores_stand_beside_the_accuracy_of_their_classes_and_of_their_models(study: Results) -> None:
    frame = scores(study, 1.0)
    whole = frame.groupby(["mixture", "seed"], as_index=False)["score"].mean().assign(score=[3.0, 4.0])
    table = scored(study, {"features": frame}, {"CKA": whole})
    SCORES.check(table, "the scores")
    units = class_accuracies(study).merge(frame, on=["mixture", "seed", "class"])
    of_classes = table[(table["score"] == "features") & (table["class"] != "")]
    assert of_classes["value"].tolist() == units["score"].tolist()
    assert of_classes["seen"].tolist() == units["seen"].tolist()
    means = units.groupby(["mixture", "seed"], sort=False)[["score", "accuracy", "seen"]].mean()
    of_models = table[(table["score"] == "features") & (table["class"] == "")]
    assert np.allclose(of_models[["value", "accuracy", "seen"]], means)
    cka = table[table["score"] == "CKA"].set_index("mixture")
    assert cka["value"].to_dict() == dict(zip(whole["mixture"], whole["score"], strict=True))
    assert np.allclose(cka.loc[means.index.get_level_values(0), "accuracy"], means["accuracy"])


def test_scores_of_classifiers_stand_beside_the_accuracy_of_classifiers(study: Results) -> None:
    clip = study.per_class
    half = clip.assign(kind="supervised", accuracy=clip["accuracy"] / 2)
    others = pd.concat([half, clip.assign(kind="public", accuracy=0.0)], ignore_index=True)
    both = replace(study, further=replace(study.further, per_class=others))
    whole = scores(study, 1.0).groupby(["mixture", "seed"], as_index=False)["score"].mean()
    found = scored(both, {}, {"kurtosis": whole}, {"supervised": {"kurtosis": whole.assign(score=[7.0, 8.0])}})
    SCORES.check(found, "the scores")
    own, classifiers = (found[found["kind"] == kind].set_index("mixture") for kind in ("clip", "supervised"))
    assert len(found) == len(own) + len(classifiers) == 2 * len(MIXTURES)
    pd.testing.assert_frame_equal(own.reset_index()[SCORES.names], scored(study, {}, {"kurtosis": whole}))
    assert classifiers["value"].to_dict() == dict(zip(whole["mixture"], (7.0, 8.0), strict=True))
    for name in ("accuracy", "seen"):
        assert np.allclose(classifiers[name], own[name] / 2)


def test_groups_of_models_are_related_each_by_itself() -> None:
    clip, other = made(2, 5), made(2, 5, sign=-1.0).assign(kind="supervised")
    more = pd.concat([clip, clip.assign(score="kurtosis", value=np.arange(len(clip)) % 4), other], ignore_index=True)
    found = relations(more, confidence=CONFIDENCE, **OPTIONS)
    pd.testing.assert_frame_equal(
        found[found["kind"] == "clip"].reset_index(drop=True),
        relations(more[more["kind"] == "clip"], confidence=CONFIDENCE, **OPTIONS),
    )
    rows = found[(found["way"] == "plain") & (found["left_out"] == "") & (found["score"] == "CKA")].set_index("kind")
    assert rows["estimate"].to_dict() == {"clip": pytest.approx(1), "supervised": pytest.approx(-1)}
    assert rows.loc["clip", "p_holm"] > rows.loc["clip", "p_value"]  # over two scores
    assert rows.loc["supervised", "p_holm"] == rows.loc["supervised", "p_value"]  # over one


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_among_mixtures_differences_between_test_domains_do_not_count(sign: float) -> None:
    found = relations(made(3, 5, sign), confidence=CONFIDENCE, **OPTIONS)
    whole = found[(found["left_out"] == "") & (found["way"] == "plain")].iloc[0]
    assert (whole["among"], whole["estimate"]) == ("mixtures", pytest.approx(sign))
    assert (whole["models"], whole["units"]) == (6, 15)  # seeds of test domains; mixtures of test domains
    assert whole["p_value"] < 0.05


def test_each_test_domain_is_left_out_once() -> None:
    units = made(2, 5)
    units.loc[units["test_domain"] == "d1", "accuracy"] *= -1
    found = relations(units, confidence=CONFIDENCE, **OPTIONS)
    plain = found[found["way"] == "plain"].set_index("left_out")["estimate"]
    assert plain.to_dict() == {"": pytest.approx(0), "d0": pytest.approx(-1), "d1": pytest.approx(1)}
    assert found.loc[found["left_out"] != "", ["low", "high", "p_value", "p_holm"]].isna().all(axis=None)


def test_too_few_mixtures_say_nothing() -> None:
    assert relations(made(3, 3), confidence=CONFIDENCE, **OPTIONS).empty
