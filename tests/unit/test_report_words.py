"""The sentences of the report say what the numbers show, and no more."""

from __future__ import annotations

import pandas as pd
import pytest

from domix.report.load.study import Results, load_results
from domix.report.tables import words
from tests.fake_report import CONFIDENCE, Fake


def study(folder, **kwargs) -> Results:
    fake = Fake(folder, **kwargs)
    return load_results(fake.write(), fake.mixtures, fake.seeds, CONFIDENCE)


def compare(made: Results, mixture: str, baseline: str, difference: float, half: float, p_value: float) -> None:
    """Set the paired comparison of two mixtures."""
    rows = (made.paired["mixture"] == mixture) & (made.paired["baseline"] == baseline)
    assert rows.any()
    values = [difference, difference - half, difference + half, p_value]
    made.paired.loc[rows, ["difference", "low", "high", "p_value"]] = values


def test_a_shown_difference_is_called_one_and_placed_below_the_upper_bound(tmp_path):
    made = study(tmp_path)
    compare(made, "cg-high", "natural-only", 0.15, 0.05, 0.0001)
    compare(made, "cg-high", "cg-high-all", -0.2, 0.05, 0.0001)
    said = words.conclude(made)
    assert said.verdict.startswith(
        "In part: a model that saw clipart images of other classes only (cg-high) reads more"
    )
    assert "a paired difference of +15.0 points" in said.answer and "p < 0.001" in said.answer


def test_no_measurable_distance_from_the_upper_bound_is_said_as_such(tmp_path):
    made = study(tmp_path)
    compare(made, "cg-high", "natural-only", 0.15, 0.05, 0.0001)
    compare(made, "cg-high", "cg-high-all", -0.02, 0.05, 0.6)
    assert "not measurably fewer" in words.conclude(made).verdict


def test_an_interval_across_zero_leaves_the_question_open(tmp_path):
    made = study(tmp_path)
    compare(made, "cg-high", "natural-only", 0.03, 0.05, 0.3)
    said = words.conclude(made)
    assert said.verdict.startswith("Not shown") and "leaves open whether either is better" in said.answer
    assert "reads more" not in said.verdict + said.answer


def test_interval_apart_but_test_not_significant_stays_open(tmp_path):
    made = study(tmp_path)
    compare(made, "cg-high", "natural-only", 0.06, 0.05, 0.2)
    assert words.conclude(made).verdict.startswith("Not shown")


def test_worse_is_called_worse(tmp_path):
    made = study(tmp_path)
    compare(made, "cg-high", "natural-only", -0.15, 0.05, 0.0001)
    said = words.conclude(made)
    assert said.verdict.startswith("No: ") and "fewer" in said.verdict
    assert "\u221215.0 points" in said.answer


def test_without_baseline_chance_is_what_remains(tmp_path):
    said = words.conclude(study(tmp_path, mixtures=["cg-high", "cg-high-all"]))
    assert said.verdict == "Better than guessing"
    assert "no natural-only model here" in said.answer
    low = words.conclude(study(tmp_path / "low", mixtures=["cg-high"], accuracy={"cg-high": (0.0, 0.3, 0.3)}))
    assert low.verdict.startswith("No better than guessing")
    assert any("no upper bound" in sentence for sentence in low.more)


def test_without_a_mixture_that_puts_the_question_nothing_is_concluded(tmp_path):
    said = words.conclude(study(tmp_path, mixtures=["natural-only", "cg-high-all"]))
    assert said.verdict == "Not asked" and "does not put the question" in said.more[0]


def test_missing_comparison_is_admitted(tmp_path):
    made = study(tmp_path)
    vars(made)["paired"] = made.paired.iloc[:0]
    said = words.conclude(made)
    assert said.verdict == "Not compared" and "not compared image by image" in said.answer


def test_leave_out_domain_takes_the_focus_where_there_is_no_cg_high(tmp_path):
    said = words.conclude(study(tmp_path, mixtures=["natural-only", "leave-out-domain"]))
    assert said.answer.startswith("leave-out-domain names")


@pytest.mark.parametrize(
    ("difference", "p_value", "said"), [(0.1, 0.001, "helps"), (-0.1, 0.001, "hurts"), (0.01, 0.5, "stays open")]
)
def test_seen_cells_of_the_test_domain_help_hurt_or_stay_open(tmp_path, difference, p_value, said):
    made = study(tmp_path)
    compare(made, "cg-high", "leave-out-domain", difference, 0.05, p_value)
    assert any(said in sentence for sentence in words.conclude(made).more)


def test_an_upper_bound_that_does_not_stand_out_is_a_warning(tmp_path):
    made = study(tmp_path)
    compare(made, "cg-high-all", "natural-only", 0.01, 0.05, 0.7)
    said = " ".join(words.conclude(made).more)
    assert "may lack the power" in said and "of the way" not in said


def test_seeds_are_mentioned(tmp_path):
    assert "one seed" in words.conclude(study(tmp_path)).more[-1]
    assert "means over 2 seeds" in words.conclude(study(tmp_path / "two", seeds=[0, 1])).more[-1]


def test_mixtures_are_described_from_their_counts(tmp_path):
    made = study(tmp_path, test_domain="sketch")
    assert words.shown(made, "natural-only") == "real images only"
    assert words.shown(made, "leave-out-domain") == "every domain but sketch"
    assert words.shown(made, "cg-low") == "real and sketch; in sketch none of the test classes"
    assert words.shown(made, "cg-high").startswith("every domain; in sketch none")
    assert "the test classes in sketch too" in words.shown(made, "cg-high-all")


def test_numbers_are_written_with_real_minus_signs_and_bound_units():
    assert words.percent(0.2134) == "21.3\u00a0%"
    assert words.points(-0.05) == "\u22125.0"
    row = pd.Series({"low": 0.1, "high": 0.2})
    assert words.interval(row, 0.95) == "(95\u00a0% interval 10.0 to 20.0)"
    assert words.listed(["a", "b", "c"]) == "a, b and c"


def test_mixtures_called_by_their_alias_keep_their_part(tmp_path):
    alias = {"lso-real-only": "natural-only", "lso-all": "cg-high"}
    said = words.conclude(study(tmp_path, mixtures=["lso-real-only", "lso-all", "natural-images"], standard=alias))
    assert said.answer.startswith("lso-all names") and "for lso-real-only" in said.answer
