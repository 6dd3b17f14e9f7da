"""The answer of a study claims what its numbers show, in the order of the questions, and no more."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from domix.report.load.study import Results, load_results
from domix.report.tables.findings import Conclusion, conclude
from tests.fake_report import CONFIDENCE, Fake

DG, CG, BETTER = 0, 1, 2  # places of the questions


def study(folder: Path, **kwargs: Any) -> Results:
    fake = Fake(folder, **kwargs)
    made = load_results(fake.write(), fake.mixtures, fake.seeds, CONFIDENCE)
    if made.upper_bound and made.baseline:
        compare(made, made.upper_bound, made.baseline, 0.3, 0.05, 0.0001)
    return made


def compare(made: Results, mixture: str, baseline: str, difference: float, half: float, p_value: float) -> None:
    """Set the paired comparison of two mixtures."""
    rows = (made.paired["mixture"] == mixture) & (made.paired["baseline"] == baseline)
    assert rows.any()
    values = [difference, difference - half, difference + half, p_value]
    made.paired.loc[rows, ["difference", "low", "high", "p_value"]] = values


def with_detectable(made: Results, mixture: str, baseline: str, least: float) -> Results:
    """Return the study with the table that says what a comparison could have found, beside rows that are not asked."""
    row: dict[str, object] = {
        "kind": "clip",
        "domain": made.test_domain,
        "cells": "held_out",
        "metric": "balanced_top1",
    }
    row |= {"mixture": mixture, "baseline": baseline, "detectable": least, "seeds": 1, "checkpoints": 1}
    others = [{"kind": "supervised"}, {"domain": "real"}, {"cells": "all"}, {"metric": "top1"}, {"mixture": "x"}]
    rows = [row | other | {"detectable": 0.999} for other in others] + [row]
    return dataclasses.replace(made, further=dataclasses.replace(made.further, comparisons=pd.DataFrame(rows)))


def text(said: Conclusion) -> str:
    return " ".join([said.headline, *(f"{f.question} {f.answer} {f.numbers}" for f in said.findings), *said.more])


def test_the_questions_come_in_the_papers_order(tmp_path):
    asked = [finding.question for finding in conclude(study(tmp_path)).findings]
    assert asked == [
        "Do other styles help with clipart, unseen?",
        "Do clipart images of other classes help?",
        "Are they better than no clipart image at all?",
        "Is diversity what helps there?",
        "How much of the way to a model that was shown all?",
    ]


@pytest.mark.parametrize(
    ("difference", "p_value", "verdict", "said"),
    [
        (0.15, 0.0001, "more", "Yes: trained on other styles, CLIP reads 15.0 points more"),
        (-0.15, 0.0001, "fewer", "No, on the contrary: trained on other styles, CLIP reads 15.0 points fewer"),
        (0.03, 0.3, "open", "No difference is shown, and none larger than 8.0 points is likely"),
        (-0.03, 0.3, "open", "none larger than 8.0 points"),
        (0.06, 0.2, "open", "No difference is shown"),  # the interval is apart from 0, the test is not sure
    ],
)
def test_a_difference_is_one_where_interval_and_test_agree(tmp_path, difference, p_value, verdict, said):
    made = study(tmp_path)
    compare(made, "leave-out-domain", "natural-only", difference, 0.05, p_value)
    found = conclude(made).findings[DG]
    assert found.verdict == verdict and said in found.answer
    short = {"more": "bring 15.0 points", "fewer": "cost 15.0 points", "open": "make no difference larger than"}
    assert conclude(made).headline.startswith(f"Other styles {short[verdict]}")
    assert f"{'+' if difference > 0 else chr(0x2212)}{abs(difference) * 100:.1f} points" in found.numbers


def test_a_p_of_just_alpha_is_no_difference(tmp_path):
    made = study(tmp_path, mixtures=["natural-only", "leave-out-domain"])
    for p_value, verdict in ((0.05, "open"), (0.0499, "more")):
        compare(made, "leave-out-domain", "natural-only", 0.15, 0.05, p_value)
        assert conclude(made).findings[DG].verdict == verdict


def test_every_difference_says_what_could_have_been_found(tmp_path):
    made = study(tmp_path)
    compare(made, "leave-out-domain", "natural-only", 0.03, 0.05, 0.3)
    found = conclude(with_detectable(made, "leave-out-domain", "natural-only", 0.067)).findings
    assert found[DG].numbers.endswith("p = 0.600; 6.7 points would have been found")
    turned = conclude(with_detectable(made, "natural-only", "cg-high", 0.055)).findings
    assert turned[CG].numbers.endswith("; 5.5 points would have been found")
    assert "99.9" not in "".join(finding.numbers for finding in [*found, *turned])


@pytest.mark.parametrize(
    ("difference", "p_value", "said", "short"),
    [
        (0.1, 0.001, "10.0 points more", "bring 10.0 points"),
        (-0.1, 0.001, "10.0 points fewer", "cost 10.0 points"),
        (0.01, 0.5, "none larger than 6.0", "make no difference larger than 6.0 points"),
    ],
)
def test_composition_is_compared_with_not_seeing_the_domain(tmp_path, difference, p_value, said, short):
    made = study(tmp_path)
    compare(made, "cg-high", "leave-out-domain", difference, 0.05, p_value)
    conclusion = conclude(made)
    assert said in conclusion.findings[BETTER].answer
    assert conclusion.headline.endswith(f"; clipart images of other classes beside them {short}")


def test_each_mixture_is_placed_on_the_way_to_the_upper_bound(tmp_path):
    made = study(tmp_path, accuracy={"natural-only": (0.1, 0.1, 0.5), "cg-high-all": (0.5, 0.5, 0.5)})
    rows = (made.metrics["cells"] == "held_out") & (made.metrics["metric"] == "balanced_top1")
    for mixture, estimate in (("natural-only", 0.1), ("cg-high", 0.2), ("cg-high-all", 0.5)):
        made.metrics.loc[rows & (made.metrics["mixture"] == mixture), "estimate"] = estimate
    compare(made, "cg-high", "cg-high-all", -0.3, 0.05, 0.0001)
    way = conclude(made).findings[-1]
    assert way.answer.startswith("From natural-only to cg-high-all, ") and "cg-high 25\u00a0%" in way.answer
    assert "cg-high \u221230.0 points (95\u00a0% interval \u221235.0 to \u221225.0), p < 0.001" in way.numbers
    assert "cg-high-all 100" not in way.answer
    made.metrics.loc[rows & (made.metrics["mixture"] == "cg-high"), "estimate"] = 0.06
    assert "cg-high \u221210\u00a0%" in conclude(made).findings[-1].answer


@pytest.mark.parametrize(
    ("upper", "baseline", "learned"),
    [(0.14, 0.02, False), (0.15, 0.02, True), (0.09, 0.01, False), (0.11, 0.01, True)],
)
def test_what_the_upper_bound_has_not_learned_allows_no_conclusion(tmp_path, upper, baseline, learned):
    made = study(tmp_path)
    rows = (made.metrics["cells"] == "held_out") & (made.metrics["metric"] == "balanced_top1")
    for mixture, estimate in (("natural-only", baseline), ("cg-high-all", upper)):
        made.metrics.loc[rows & (made.metrics["mixture"] == mixture), "estimate"] = estimate
    compare(made, "leave-out-domain", "natural-only", 0.15, 0.05, 0.0001)
    said = conclude(made)
    assert bool(said.findings) == learned
    if not learned:
        assert said.headline == "Not learned: no conclusion about generalisation to clipart is drawn from this study"
        assert "train.samples" in said.more[0] and f"{upper * 100:.1f}" in said.more[0]
        assert "Yes" not in text(said)


def test_an_upper_bound_that_does_not_stand_out_was_not_learned(tmp_path):
    made = study(tmp_path)
    compare(made, "cg-high-all", "natural-only", 0.01, 0.05, 0.7)
    assert conclude(made).headline.startswith("Not learned")


def test_without_baseline_chance_is_what_remains(tmp_path):
    said = conclude(study(tmp_path, mixtures=["cg-high", "cg-high-all"]))
    assert said.headline == "Better than guessing: cg-high on held-out clipart images" and not said.findings
    assert "no model of real images alone" in said.more[0]
    low = conclude(study(tmp_path / "low", mixtures=["cg-high"], accuracy={"cg-high": (0.0, 0.3, 0.3)}))
    assert low.headline.startswith("No better than guessing")


def test_better_than_guessing_is_judged_by_the_interval(tmp_path):
    made = study(tmp_path, mixtures=["cg-high"])
    rows = (made.metrics["cells"] == "held_out") & (made.metrics["metric"] == "balanced_top1")
    made.metrics.loc[rows, ["estimate", "low", "chance"]] = [0.2, 0.02, 0.025]
    assert conclude(made).headline.startswith("No better than guessing")


def test_without_an_upper_bound_that_is_said(tmp_path):
    said = conclude(study(tmp_path, mixtures=["natural-only", "leave-out-domain"]))
    assert len(said.findings) == 1
    assert any("no upper bound" in sentence for sentence in said.more)


def test_without_a_mixture_that_puts_the_question_nothing_is_concluded(tmp_path):
    said = conclude(study(tmp_path, mixtures=["natural-only", "cg-high-all"]))
    assert said.headline == "Not asked" and "does not put the question" in said.more[0]


def test_missing_comparison_is_admitted(tmp_path):
    made = study(tmp_path, mixtures=["natural-only", "cg-high"])
    vars(made)["paired"] = made.paired.iloc[:0]
    said = conclude(made)
    assert said.headline == "Not compared" and "not compared image by image" in said.more[0]


def test_other_mixtures_alone_answer_for_themselves(tmp_path):
    names = {"mine": "mine"}
    said = conclude(study(tmp_path, mixtures=["natural-only", "mine"], standard=names, accuracy={"mine": (0.2,) * 3}))
    assert "mine less natural-only" in said.findings[0].numbers


def test_seeds_are_mentioned(tmp_path):
    assert "one seed" in conclude(study(tmp_path)).more[-1]
    assert "means over 2 seeds" in conclude(study(tmp_path / "two", seeds=[0, 1])).more[-1]


def test_mixtures_called_by_their_alias_keep_their_part(tmp_path):
    alias = {"lso-real-only": "natural-only", "lso-all": "cg-high"}
    said = conclude(study(tmp_path, mixtures=["lso-real-only", "lso-all", "natural-images"], standard=alias))
    assert "lso-all less lso-real-only" in said.findings[0].numbers
