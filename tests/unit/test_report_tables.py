"""The report's numbers follow from the tables, and are named and rounded for metrics/results.json."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from domix.analyses.registry import find
from domix.figures.page import svg
from domix.report.figures import accuracies, cells, classes, learning, study_card
from domix.report.load.study import Results, load_results
from domix.report.page import page
from domix.report.tables import summary
from domix.runtime.errors import DataError
from domix.runtime.tables import write_table
from tests.fake_report import CONFIDENCE, MIXTURES, Fake


def study(folder, **kwargs) -> Results:
    fake = Fake(folder, **kwargs)
    return load_results(fake.write(), fake.mixtures, fake.seeds, CONFIDENCE)


def test_results_are_flat_rounded_and_free_of_the_test_domain(tmp_path):
    ours = [summary.results(study(tmp_path / d, test_domain=d)) for d in ("clipart", "sketch")]
    assert ours[0].keys() == ours[1].keys()
    assert not any("clipart" in key or "sketch" in key for key in ours[0])
    numbers = [value for value in ours[0].values() if isinstance(value, float)]
    assert numbers and all(value == round(value, 4) for value in numbers)
    assert ours[1]["test_domain"] == "sketch"


def test_results_repeat_the_evaluation(tmp_path):
    made = study(tmp_path)
    flat = summary.results(made)
    rows = made.metrics.query("mixture == 'cg-high' and domain == 'clipart' and cells == 'held_out'")
    row = rows[rows["metric"] == "balanced_top1"].iloc[0]
    assert flat["cg-high.held_out.balanced_top1"] == pytest.approx(row["estimate"], abs=5e-5)
    assert flat["cg-high.held_out.balanced_top1.low"] == pytest.approx(row["low"], abs=5e-5)
    assert flat["cg-high.held_out.n"] == row["n"]
    natural = made.metrics.query("mixture == 'cg-low' and domain == 'real' and cells == 'all'").iloc[0]
    assert flat["cg-low.natural.balanced_top1"] == pytest.approx(natural["estimate"], abs=5e-5)


def test_gap_is_measured_from_the_baseline_to_the_upper_bound(tmp_path):
    flat = summary.results(study(tmp_path))
    low, mine, high = (flat[f"{m}.held_out.balanced_top1"] for m in ("natural-only", "cg-high", "cg-high-all"))
    assert flat["cg-high.held_out.gap_closed"] == pytest.approx((mine - low) / (high - low), abs=0.01)
    assert "natural-only.held_out.gap_closed" not in flat and "cg-high-all.held_out.gap_closed" not in flat
    assert summary.gap_closed(0.2, 0.3, 0.3) is None


def test_results_without_baseline_have_no_comparisons(tmp_path):
    flat = summary.results(study(tmp_path, mixtures=["cg-high", "cg-high-all"]))
    assert "cg-high.held_out.balanced_top1" in flat
    assert not any("baseline" in key or "gap" in key for key in flat)


def test_several_seeds_average_their_ends_and_keep_their_spread(tmp_path):
    made = study(tmp_path, seeds=[0, 1, 2])
    mine = made.metrics.query("mixture == 'cg-low' and domain == 'clipart' and cells == 'held_out'")
    mine = mine[mine["metric"] == "balanced_top1"]
    row = summary.pick(summary.estimates(made), "cg-low", "clipart", "held_out")
    assert row is not None
    assert (row["estimate"], row["low"]) == (pytest.approx(mine["estimate"].mean()), pytest.approx(mine["low"].mean()))
    assert (row["seeds"], row["seed_low"], row["seed_high"]) == (3, mine["estimate"].min(), mine["estimate"].max())


def test_rows_of_runs_not_asked_for_are_dropped(tmp_path):
    folder = Fake(tmp_path, seeds=[0, 1]).write()
    made = load_results(folder, ["cg-high", "natural-only"], [1], CONFIDENCE, analyses=["separation", "cka"])
    found = [
        table
        for name, findings in made.analyses.items()
        for key, table in findings.tables.items()
        if len(table) or key not in find(name).optional
    ]
    assert len(found) >= 4
    for frame in (made.metrics, made.per_class, made.predictions, made.log, *found):
        assert list(frame["mixture"].unique()) == ["cg-high", "natural-only"]
        assert set(frame["seed"]) == {1}
    assert set(made.paired["seed"]) == {1}


def test_a_run_without_rows_is_named(tmp_path):
    folder = Fake(tmp_path).write()
    with pytest.raises(DataError, match=r"cg-low-all-s0/config\.json is missing"):
        load_results(folder, [*MIXTURES, "cg-low-all"], [0], CONFIDENCE)
    rows = pd.read_parquet(folder / "eval/metrics.parquet").query("mixture != 'cg-high'")
    write_table(tmp_path / "eval/metrics.parquet", rows)
    with pytest.raises(DataError, match=r"metrics\.parquet holds nothing for cg-high seed 0$") as caught:
        load_results(folder, MIXTURES, [0], CONFIDENCE)
    assert caught.value.remake == folder / "eval/metrics.parquet"


@pytest.mark.parametrize("name", ["mixtures", "comparisons", "curves", "robustness", "effective"])
def test_a_table_that_an_evaluation_always_writes_is_missed(tmp_path, name):
    folder = Fake(tmp_path).write()
    (folder / "eval" / f"{name}.parquet").unlink()
    with pytest.raises(DataError, match=rf"{name}\.parquet is missing"):
        load_results(folder, MIXTURES, [0], CONFIDENCE)


@pytest.mark.parametrize("name", ["metrics", "per_class", "predictions", "paired"])
def test_a_column_that_is_missing_or_mistyped_is_named(tmp_path, name):
    path = Fake(tmp_path).write() / "eval" / f"{name}.parquet"
    whole = pd.read_parquet(path)
    write_table(path, whole.drop(columns="kind"))
    with pytest.raises(DataError, match=rf"{name}\.parquet has no column 'kind' .*: have evaluate write it again$"):
        load_results(tmp_path, MIXTURES, [0], CONFIDENCE)
    write_table(path, whole.assign(seed=whole["seed"].astype(str)))
    with pytest.raises(DataError, match=rf"{name}\.parquet has a column 'seed' of type large_string, where .* int64"):
        load_results(tmp_path, MIXTURES, [0], CONFIDENCE)


def test_a_missing_log_is_named(tmp_path):
    folder = Fake(tmp_path).write()
    (folder / "models/clip/cg-low-s0/log.csv").unlink()
    with pytest.raises(DataError, match=r"cg-low-s0/log\.csv is missing"):
        load_results(folder, MIXTURES, [0], CONFIDENCE)


def test_differences_turn_a_comparison_written_the_other_way_round(tmp_path):
    made = study(tmp_path)
    straight = summary.differences(made, "natural-only")
    turned = made.paired.assign(
        mixture=made.paired["baseline"],
        baseline=made.paired["mixture"],
        difference=-made.paired["difference"],
        low=-made.paired["high"],
        high=-made.paired["low"],
    )
    vars(made)["paired"] = turned
    pd.testing.assert_frame_equal(straight, summary.differences(made, "natural-only"))


def test_seeds_that_were_compared_apart_are_merged_by_their_least_sure_test(tmp_path):
    """Corrected over the mixtures that are compared."""
    made = study(tmp_path, seeds=[0, 1, 2])
    vars(made.further)["comparisons"] = made.further.comparisons.iloc[:0]
    mine = (made.paired["mixture"] == "cg-low") & (made.paired["baseline"] == "natural-only")
    for seed, p_value in enumerate((0.2, 0.9, 0.01)):
        made.paired.loc[mine & (made.paired["seed"] == seed), "p_value"] = p_value
    found = summary.differences(made, "natural-only").set_index("mixture")
    assert found.loc["cg-low", "p_value"] >= 0.9
    held_out = made.paired[mine & (made.paired["cells"] == "held_out") & (made.paired["metric"] == "balanced_top1")]
    for name in ("difference", "low", "high"):
        assert found.loc["cg-low", name] == pytest.approx(held_out[name].mean())


def test_a_curve_is_the_mean_of_its_seeds_from_the_least_to_the_greatest():
    rows = pd.DataFrame({"mixture": "a", "x": [2, 2, 2, 1, 1, 1], "estimate": [0.5, 0.1, 0.6, 0.0, 0.3, 0.3]})
    found = learning.over_seeds(rows)
    assert found["x"].tolist() == [1, 2]
    assert found[["y", "low", "high"]].to_numpy() == pytest.approx(np.array([[0.2, 0, 0.3], [0.4, 0.1, 0.6]]))


@pytest.mark.parametrize(
    ("low", "high", "p_value", "said"),
    [
        (0.01, 0.2, 0.001, "more"),
        (-0.2, -0.01, 0.001, "fewer"),
        (-0.01, 0.2, 0.001, "open"),
        (0.01, 0.2, 0.2, "open"),
        (0.01, 0.2, np.nan, "more"),
        (0.0, 0.2, np.nan, "open"),
    ],
)
def test_a_difference_counts_only_if_interval_and_test_agree(low, high, p_value, said):
    assert summary.verdict(low, high, p_value, 0.05) == said


def test_holm_corrects_as_published():
    corrected = summary.holm(np.array([0.01, 0.04, 0.03, np.nan, 0.005]))
    np.testing.assert_allclose(corrected, [0.03, 0.06, 0.06, np.nan, 0.02])
    assert summary.holm(np.array([0.9, 0.8])).max() == 1.0


def test_classes_run_from_best_to_worst_of_the_mixtures_without_them(tmp_path):
    made = study(tmp_path)
    table = summary.class_table(made)
    assert set(table.index) == set(made.test_classes) and list(table.columns) == MIXTURES
    means = table.drop(columns="cg-high-all").mean(axis=1)
    assert means.is_monotonic_decreasing


def test_the_study_in_one_image_is_a_valid_svg_of_all_mixtures(tmp_path):
    text = study_card.draw(study(tmp_path, mixtures=["natural-only", "cg-high"]), page.source("style.css"))
    root = ElementTree.fromstring(text)
    words = [part.text for part in root.iter("{http://www.w3.org/2000/svg}text")]
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and {"natural-only", "cg-high", "held out"} <= set(words)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_cells_say_what_is_held_out(tmp_path):
    drawn = {mixture: svg(figure) for mixture, figure in cells.cells(study(tmp_path))}
    assert [">held out<" in drawn[m] for m in MIXTURES] == [True, True, True, True, False]


def test_cells_write_the_samples_a_class(tmp_path):
    made = study(tmp_path)
    frame = cells.samples_a_class(made).set_index(["mixture", "domain", "tested"])["samples"]
    mine = made.cells[(made.cells["mixture"] == "cg-high") & (made.cells["domain"] == "real")]
    mine = mine[~mine["class"].isin(made.test_classes)]
    assert frame["cg-high", "real", False] == pytest.approx(mine["samples"].mean())
    assert frame["cg-high", "clipart", True] == 0 and frame["cg-high-all", "clipart", True] > 0


def test_accuracies_are_those_of_the_page_s_panels(tmp_path):
    made = study(tmp_path, seeds=[0, 1])
    figures = accuracies.accuracies(made)
    assert list(figures) == ["held_out", "seen", "natural"]
    row = summary.pick(summary.estimates(made), "cg-high", "clipart", "held_out")
    assert row is not None and f">{row['estimate'] * 100:.1f}<" in svg(figures["held_out"])
    assert "<title>upper bound</title>" in svg(figures["held_out"])
    assert "<title>upper bound</title>" not in svg(figures["seen"])
    assert all("<title>chance 2.5\u00a0%</title>" in svg(figure) for figure in figures.values())


def test_without_a_baseline_there_is_no_figure_of_differences(tmp_path):
    assert accuracies.paired(study(tmp_path / "a", mixtures=["cg-high"])) is None
    figure = accuracies.paired(study(tmp_path / "b"))
    assert figure is not None and "cg-high" in figure.alt


def test_without_a_loss_there_is_no_figure_of_it(tmp_path):
    made = study(tmp_path)
    assert [mixture for mixture, _ in learning.losses(made)] == MIXTURES
    bare = replace(made, log=made.log.assign(loss=float("nan")))
    assert learning.losses(bare) == []


def test_class_shares_count_classes(tmp_path):
    made = study(tmp_path)
    figure = classes.class_shares(made)
    table = summary.class_table(made)
    assert figure is not None and f"cg-high {(table['cg-high'] == 1).sum()}/" in figure.alt
