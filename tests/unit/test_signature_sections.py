"""What the report says of outlier features, directions and pruning, from tables whose answer is known."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy

from domix.analyses.association import Association
from domix.analyses.controlled import controlled_metrics, controlled_tests, say_controlled
from domix.analyses.directions.section import by_rank
from domix.analyses.pruning.section import prunable, robustness, trend
from domix.analyses.registry import find
from domix.evaluate.effective import clamp, effective_robustness, fit_line
from domix.figures import page
from domix.figures.histogram import histogram
from domix.figures.look import PRINT
from domix.runs import Run
from tests.fake_signatures import direction_tables, facts, outlier_tables, pruning_tables
from tests.made_section import MIXTURES, section, study


def test_the_section_tells_kurtosis_on_natural_images_of_the_last_weights() -> None:
    made = section("outliers", outlier_tables(study(2).runs))
    assert made.metrics["natural-only.kurtosis"] == 5.0 and made.metrics["cg-high-all.kurtosis"] == 13.0
    assert (
        "natural-only 5.00, cg-low 7.00" in made.parts[0].text and "No component of any embedding" in made.parts[0].text
    )
    assert "No layer of a trained model has an outlier feature." in made.parts[1].text
    scores = made.model_scores["kurtosis at the output"].set_index(["mixture", "seed"])["score"]
    assert scores[("natural-only", 1)] == 6.0 and len(scores) == 10
    plot = made.plots["kurtosis"].set_index(["mixture", "series", "x"])["y"]
    assert plot["cg-low", "before training", 1] == 13.0 and plot["cg-low", "after training", 0] == 13.0
    course = made.parts[2]
    assert course.title == "Kurtosis over training" and "at 12 epochs" in course.figures["Output"].alt


def test_layers_are_shown_at_every_checkpoint_and_before_and_after_training() -> None:
    tables = outlier_tables(study(2).runs)
    high = tables["sites"]["mixture"] == "cg-high"
    tables["sites"].loc[high & (tables["sites"]["seed"] == 1), "kurtosis"] += 2.0
    made = section("outliers", tables)
    part = made.parts[3]
    assert part.title == "Kurtosis layer by layer, over training" and list(part.figures) == MIXTURES
    figure = part.figures["cg-high"]
    assert "act1 13.00 before training and 14.00 after; attnpool 14.00 before training and 15.00 after" in figure.alt
    svg = page.svg(figure)
    tips = re.findall(r"<title>([^<]+)</title>", svg)
    assert {"act1 after 0 epochs: 13.00", "act1 after 3 epochs: 18.00", "attnpool after 12 epochs: 15.00"} <= set(tips)
    assert [text for text in re.findall(r">([^<>]+)</text>", svg) if text in ("0", "3", "12")] == ["0", "3", "12"]
    assert {"13.0", "18.0", "15.0"} <= set(re.findall(r">([^<>]+)</text>", svg))
    shades = [float(share) for share in re.findall(r'opacity[:=]"?\s*([0-9.]+)', page.svg(part.figures["cg-low"]))]
    assert min(shades) == 0.05 and max(shades) == pytest.approx(
        0.05 + 0.95 * np.log(18 / 12) / np.log(19 / 12), abs=0.01
    )
    plot = made.plots["kurtosis"]
    assert set(plot["series"]) == {"before training", "after training"}
    assert plot.set_index(["mixture", "series", "x"])["y"]["cg-low", "after training", 0] == 13.0
    without = dict(tables, sites=tables["sites"][tables["sites"]["weights"] != "kept"])
    assert part.title not in [each.title for each in section("outliers", without).parts]


def test_the_section_tells_outlier_features() -> None:
    made = section("outliers", outlier_tables(study().runs, outliers=2))
    assert (
        "cg-high 2 (25.0\N{NO-BREAK SPACE}% of the squared length); the other mixtures have none" in made.parts[0].text
    )
    assert "Outlier features after training: act1 (in 1 mixtures)" in made.parts[1].text
    assert made.metrics["cg-high.outliers"] == 2 and made.metrics["cg-low.outliers"] == 0


def test_without_checkpoints_sites_or_any_model_there_is_less() -> None:
    tables = outlier_tables(study().runs)
    tables["output"] = tables["output"][tables["output"]["checkpoint"] == 12]
    tables["sites"] = tables["sites"].iloc[:0]
    first, last = section("outliers", tables).parts
    assert (first.title, list(last.figures)) == ("Do outlier features appear?", ["Kurtosis at the output"])
    assert "natural-only 4; cg-low 5; leave-out-domain 6" in last.figures["Kurtosis at the output"].alt
    for name in ("outliers", "directions", "pruning"):
        empty = {schema.name: schema.empty() for schema in find(name).written()}
        made = section(name, empty)
        assert not made.parts and all(len(frame) == 0 for frame in made.plots.values())


def test_a_signature_that_follows_the_domains_is_told_apart_from_one_that_follows_accuracy() -> None:
    models = facts(study(4).runs)
    rng = np.random.default_rng(0)
    models["natural"] = rng.random(len(models))
    models["held_out"] = rng.random(len(models))
    models["follows"] = models["domains"] + 0.01 * models["natural"]
    models["accurate"] = models["natural"] ** 3
    follows = controlled_tests(models, "follows", 0.95)
    assert (
        follows["domains"].estimate > 0.95 and follows["domains"].p < 0.01 and abs(follows["held_out"].estimate) < 0.6
    )
    assert np.isnan(controlled_tests(models, "accurate", 0.95)["domains"].estimate)  # nothing is left at equal accuracy
    ranks = [scipy.stats.rankdata(models[name]) for name in ("follows", "held_out", "natural")]
    (_, a, b), (_, _, c) = np.corrcoef(ranks)[0], np.corrcoef(ranks)[1]
    partial = (a - b * c) / np.sqrt((1 - b**2) * (1 - c**2))
    assert follows["held_out"].estimate == pytest.approx(partial)
    tests = {"words": follows}
    said = say_controlled(tests, models, study(4), 0.95)
    assert "over 20 models of 5 mixtures" in said and "say little" not in said and "<li>Words: " in said
    assert "points say little" in say_controlled(tests, models.iloc[:9], study(), 0.95)
    assert controlled_metrics({"f": follows})["controlled.f.domains"] == round(follows["domains"].estimate, 4)


def test_three_models_have_no_correlation() -> None:
    models = facts(study().runs).iloc[:3].assign(value=[1.0, 2.0, 3.0])
    assert controlled_tests(models, "value", 0.9) == {}
    assert "There are 3 models: too few" in say_controlled({"value": {}}, models, study(), 0.9)
    classifiers = replace(study(), runs=tuple(Run("supervised", name, 0) for name in MIXTURES))
    assert "nothing is said of supervised classifiers." in say_controlled({"value": {}}, models, classifiers, 0.9)
    same = facts(study().runs).assign(value=1.0)
    assert "nothing to say of the number of training domains" in say_controlled(
        {"value": controlled_tests(same, "value", 0.9)}, same, study(), 0.9
    )


def test_what_moves_with_the_domains_is_said_of_numbers_whose_interval_and_test_both_say_so() -> None:
    def tested(estimate: float, low: float, high: float, p: float) -> dict[str, Association]:
        sure = Association(estimate=0.9, low=0.8, high=1.0, p=0.001, without={}, models=1, classes=9)
        return {"domains": replace(sure, estimate=estimate, low=low, high=high, p=p), "held_out": sure}

    tests = {
        "wide": tested(0.5, -0.1, 0.9, 0.001),
        "up": tested(0.6, 0.2, 0.9, 0.04),
        "down": tested(-0.6, -0.9, -0.2, 0.04),
        "chance": tested(0.6, 0.2, 0.9, 0.06),
        "constant": tested(np.nan, np.nan, np.nan, np.nan),
        "steeper": tested(0.8, 0.6, 0.9, 0.001),
        "unknown": {},
    }
    said = say_controlled(tests, facts(study().runs), study(), 0.95)
    assert (
        "in zero-shot models, at equal accuracy on natural images? Rising: up and steeper; falling: down;"
        " not shown to move: wide, chance and constant.</p>"
    ) in said
    assert "? Rising: up, chance and steeper; falling" in say_controlled(tests, facts(study().runs), study(), 0.9)


def test_the_section_tells_how_far_the_first_direction_stands_out() -> None:
    made = section("directions", direction_tables(study().runs))
    text = made.parts[0].text
    assert (
        "natural-only 2.0, cg-low 3.0" in text and "Privileged are, in number (mean over seeds): cg-high-all 1" in text
    )
    assert "In 0 of 5 models it is the direction of the largest singular value" in text
    assert "its largest component along an outlier feature is 0.25" in text.replace("Its", "its")
    assert made.metrics["cg-low.top"] == 5.0 and made.metrics["cg-low.max_to_mean"] == 3.0
    assert section("directions", direction_tables(study().runs), importance="mean_abs").metrics["cg-low.top"] == 2.5
    scores = made.model_scores["top importance by mean importance"]
    assert scores["score"].tolist() == [2.0, 3.0, 4.0, 5.0, 6.0]
    plot = made.plots["importances"]
    rows = plot[(plot["mixture"] == "natural-only") & (plot["series"] == "abs_mean")]
    assert rows["x"].tolist() == [1, 2, 3] and rows["y"].tolist() == pytest.approx([1.5, 9 / 8, 3 / 8])


def test_importances_by_rank_are_means_over_seeds_of_each_models_own() -> None:
    rows = [("m", 0, 1.0), ("m", 0, 3.0), ("m", 1, 30.0), ("m", 1, 10.0), ("m", 1, 20.0)]
    found = by_rank(pd.DataFrame(rows, columns=["mixture", "seed", "abs_mean"]), "abs_mean").set_index("rank")["value"]
    assert found.to_dict() == pytest.approx({1: 1.5, 2: 0.75, 3: 0.5})


def test_the_section_tells_how_much_can_be_pruned() -> None:
    made = section("pruning", pruning_tables(study().runs))
    assert made.metrics["cg-low.importance.held_out.prunable"] == 80
    assert made.metrics["cg-low.singular_value.natural.prunable"] == 50
    assert made.metrics["cg-low.random.held_out.prunable"] == 0
    assert "natural-only 30.0\N{NO-BREAK SPACE}% of 30.0\N{NO-BREAK SPACE}%" in made.parts[0].text
    assert "Held-out accuracy less accuracy on natural images" in made.parts[1].text
    plot = made.plots["pruning"].set_index(["mixture", "series", "x"])["y"]
    assert plot["cg-low", "random", 0.5] == pytest.approx(0.3 - 0.15 - 0.005)
    assert plot["cg-low", "importance", 1.0] == pytest.approx(0.3)


def test_effective_robustness_is_taken_from_the_trend_of_natural_images_alone() -> None:
    tables = pruning_tables(study().runs, checkpoints=4)
    fit = trend(tables["checkpoints"], "natural-only")
    mine = tables["checkpoints"][tables["checkpoints"]["mixture"] == "natural-only"]
    x, y = (mine[mine["cells"] == cells]["accuracy"].to_numpy() for cells in ("natural_tested", "held_out"))
    want = fit_line(clamp(x, 200), clamp(y, 200))
    assert fit is not None and (fit.slope, fit.intercept) == pytest.approx((want.slope, want.intercept))
    found = robustness(tables["curves"], fit).set_index(["mixture", "order", "draw", "percent"])["accuracy"]
    assert found["cg-low", "importance", 0, 80.0] == pytest.approx(float(effective_robustness(0.45, 0.3, want)))
    without = robustness(tables["curves"], None).set_index(["mixture", "order", "draw", "percent"])["accuracy"]
    assert without["cg-low", "importance", 0, 80.0] == pytest.approx(-15)
    assert "above the trend of natural-only" in section("pruning", tables).parts[1].text
    two = pruning_tables(study().runs, 2)["checkpoints"]
    assert trend(tables["checkpoints"], None) is None and trend(two, "natural-only") is None
    assert robustness(tables["curves"][tables["curves"]["cells"] == "seen"], fit).empty


@pytest.mark.parametrize(
    ("accuracies", "share"),
    [([0.5, 0.5, 0.5], 90), ([0.5, 0.4901, 0.4], 50), ([0.5, 0.48, 0.5], 0), ([0.5, 0.6, 0.4899], 50)],
)
def test_what_is_prunable_loses_at_most_a_point_on_the_way(accuracies: list[float], share: float) -> None:
    frame = pd.DataFrame({"percent": [0.0, 50.0, 90.0], "accuracy": accuracies})
    assert prunable(frame.sample(frac=1, random_state=1)) == share


def test_a_histogram_has_a_bar_a_bin_that_holds_values() -> None:
    drawn = histogram(PRINT, np.array([0.1, 0.1, 4.9]), 5.0, "size")
    assert (
        len([artist for artist in drawn.findobj() if type(artist).__name__ == "Rectangle"]) == 2 + 1
    )  # and the ground
