"""How the report writes numbers, and what mixtures show."""

from __future__ import annotations

import pandas as pd

from domix.report.load.study import Results, load_results
from domix.report.tables import words
from tests.fake_report import CONFIDENCE, Fake


def study(folder, **kwargs) -> Results:
    fake = Fake(folder, **kwargs)
    return load_results(fake.write(), fake.mixtures, fake.seeds, CONFIDENCE)


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
