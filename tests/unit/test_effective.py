"""Effective robustness: fits, bands, and the published models' values from their published accuracies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from domix.evaluate import baselines
from domix.evaluate.effective import (
    TRANSFORMS,
    Fit,
    PivotFit,
    backward,
    band,
    clamp,
    effective_robustness,
    fit_line,
    forward,
)
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

# Zero-shot models of open_clip, accuracies as printed in its table of results (in per cent): architecture, data,
# ImageNet, V2, R, Sketch, ObjectNet, A; then effective robustness: V2, R, Sketch, ObjectNet, A, mean, of the mean.
PUBLISHED = """
RN50 openai 59.82 52.8 60.7 35.4 41.4 23.3 +6.1 +38.2 +22.9 +23.9 +22.7 +22.8 +24.1
RN50 yfcc15m 32.38 28.1 22.3 7.3 18.2 13.7 +4.5 +13.0 +3.2 +13.1 +13.7 +9.5 +11.4
RN50 cc12m 35.91 30.6 44.7 23.5 23.3 7.6 +4.4 +34.0 +18.8 +17.1 +7.6 +16.4 +18.3
RN101 openai 62.28 56.1 68.2 41.1 45.1 29.4 +7.0 +44.0 +27.3 +25.7 +28.6 +26.5 +27.7
RN101 yfcc15m 34.07 29.3 26.3 8.9 19.9 16.1 +4.5 +16.3 +4.5 +14.3 +16.1 +11.1 +13.1
ViT-B-32 openai 63.32 55.9 69.3 42.3 44.3 31.6 +5.8 +44.4 +27.9 +24.0 +30.6 +26.5 +27.6
ViT-B-32 laion400m_e32 60.24 52.4 70.8 46.5 42.9 19.5 +5.2 +48.1 +33.7 +25.1 +18.9 +26.2 +27.5
ViT-B-32 laion2b_s34b_b79k 66.56 58.1 76.4 53.7 48.8 26.3 +4.7 +49.0 +37.3 +25.7 +24.8 +28.3 +29.0
ViT-B-32 datacomp_xl_s13b_b90k 69.17 60.8 78.2 56.8 55.1 30.3 +4.6 +48.5 +38.6 +29.3 +28.2 +29.8 +30.3
ViT-B-16 openai 68.34 61.9 77.7 48.2 55.3 50.0 +6.6 +48.8 +30.7 +30.4 +48.0 +32.9 +33.4
ViT-B-16 laion400m_e32 67.05 59.6 77.9 52.4 51.5 33.2 +5.7 +50.1 +35.7 +27.9 +31.6 +30.2 +30.9
ViT-B-16 laion2b_s34b_b88k 70.23 62.3 80.6 56.1 56.0 38.2 +5.0 +50.0 +37.1 +29.0 +35.8 +31.4 +31.7
ViT-B-16 datacomp_xl_s13b_b90k 73.49 66.0 83.6 60.4 63.5 48.4 +5.1 +49.8 +38.7 +32.5 +44.4 +34.1 +34.0
ViT-L-14 openai 75.54 69.8 87.8 59.6 68.9 70.8 +6.6 +51.8 +35.8 +35.1 +65.3 +38.9 +38.5
ViT-L-14 laion400m_e32 72.77 65.5 84.7 59.6 59.7 46.5 +5.3 +51.6 +38.5 +29.6 +42.9 +33.6 +33.6
ViT-L-14 laion2b_s32b_b82k 75.25 67.8 87.4 63.3 65.3 53.8 +4.9 +51.7 +39.8 +31.9 +48.6 +35.4 +35.0
ViT-L-14 datacomp_xl_s13b_b90k 79.21 72.0 90.8 68.0 74.2 69.6 +4.4 +50.2 +39.8 +34.6 +59.7 +37.8 +37.1
"""
MODELS = [line.split() for line in PUBLISHED.strip().splitlines()]
RNG = np.random.default_rng(0)
X = RNG.uniform(0.3, 0.9, 40)
Y = backward(0.9 * forward(X, "logit") - 1 + 0.1 * RNG.normal(size=40), "logit")


@pytest.mark.parametrize("model", MODELS, ids=lambda model: "/".join(model[:2]))
def test_published_models_have_their_published_effective_robustness(model: list[str]) -> None:
    imagenet, *shifts = [float(value) / 100 for value in model[2:8]]
    golden = [float(value) for value in model[8:]]
    trends = baselines.shipped_trends()
    ours = [
        float(effective_robustness(imagenet, accuracy, trends[shift].fit))
        for shift, accuracy in zip(baselines.SHIFTS, shifts, strict=True)
    ]
    assert ours == pytest.approx(golden[:5], abs=0.1)
    assert np.mean(ours) == pytest.approx(golden[5], abs=0.1)
    of_mean = effective_robustness(imagenet, np.mean(shifts), trends["mean of 5"].fit)
    assert of_mean == pytest.approx(golden[6], abs=0.1)


def test_a_supervised_resnet50_lies_near_the_trend() -> None:
    shifts = [63.21, 36.1733, 24.0917, 35.7513, 0.0]  # the testbed's row: V2, R, Sketch, ObjectNet, A
    fit = baselines.shipped_trends()["mean of 5"].fit
    assert effective_robustness(0.7613, np.mean(shifts) / 100, fit) == pytest.approx(-1.8, abs=0.1)


def test_the_matching_activation_is_worth_what_its_accuracy_says() -> None:
    """RN50 of CC12M: 35.91 % with the wrong activation function, 36.47 % with its own (open_clip's table)."""
    fit = baselines.shipped_trends()["imagenet-v2"].fit
    wrong, right = effective_robustness(0.3591, 0.3065, fit), effective_robustness(0.3647, 0.3098, fit)
    assert 0 < wrong - right < 0.5


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_fit_is_that_of_scipy_and_of_statsmodels(transform) -> None:
    fit = fit_line(X, Y, transform)
    tx, ty = {
        "logit": (np.log(X / (1 - X)), np.log(Y / (1 - Y))),
        "probit": (scipy.stats.norm.ppf(X), scipy.stats.norm.ppf(Y)),
        "linear": (X, Y),
    }[transform]
    theirs, ols = scipy.stats.linregress(tx, ty), sm.OLS(ty, sm.add_constant(tx)).fit()
    assert (fit.slope, fit.intercept) == pytest.approx((theirs.slope, theirs.intercept))
    assert (fit.intercept, fit.slope) == pytest.approx(tuple(ols.params))
    assert fit.r2 == pytest.approx(theirs.rvalue**2) == pytest.approx(ols.rsquared)
    assert backward(forward(X, transform), transform) == pytest.approx(X)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_a_band_is_that_of_a_loop_over_the_same_draws(transform) -> None:
    at, tx, ty = np.array([0.2, 0.5, 0.95]), forward(X, transform), forward(Y, transform)
    lines = []
    for row in numpy_generator(7, "effective robustness").integers(40, size=(200, 40)):
        slope, intercept = np.polyfit(tx[row], ty[row], 1)
        lines.append(backward(slope * forward(at, transform) + intercept, transform))
    low, high = band(X, Y, at, transform, confidence=0.9, resamples=200, seed=7)
    assert low == pytest.approx(np.quantile(lines, 0.05, axis=0))
    assert high == pytest.approx(np.quantile(lines, 0.95, axis=0))
    assert (low < fit_line(X, Y, transform).expected(at)).all() and (
        fit_line(X, Y, transform).expected(at) < high
    ).all()


def test_a_band_covers_the_true_line_as_often_as_it_says() -> None:
    hits = 0
    for trial in range(200):
        rng = np.random.default_rng(trial)
        x = rng.uniform(0.2, 0.8, 60)
        y = backward(0.8 * forward(x, "logit") - 0.5 + 0.3 * rng.normal(size=60), "logit")
        low, high = band(x, y, [0.6], confidence=0.9, resamples=300, seed=trial)
        hits += int(low[0] < backward(0.8 * forward(0.6, "logit") - 0.5, "logit") < high[0])
    assert 0.83 < hits / 200 < 0.96


def test_draws_of_one_point_alone_are_left_out_of_a_band() -> None:
    low, high = band([0.2, 0.5, 0.8], [0.1, 0.3, 0.6], [0.4], resamples=500)
    assert np.isfinite([low, high]).all() and low[0] <= high[0]


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99), st.sampled_from(TRANSFORMS))
def test_on_the_diagonal_effective_robustness_is_the_difference(acc_id: float, acc_shift: float, transform) -> None:
    diagonal = Fit(transform, 1.0, 0.0, 1.0)
    assert effective_robustness(acc_id, acc_shift, diagonal) == pytest.approx(100 * (acc_shift - acc_id), abs=1e-6)


def test_nothing_and_everything_right() -> None:
    fit = Fit("logit", 2.0, -1.0, 1.0)
    assert fit.expected([0.0, 1.0]) == pytest.approx([0.0, 1.0])
    assert clamp([0.0, 0.4, 1.0], 50) == pytest.approx([0.01, 0.4, 0.99])
    assert clamp([0.0, 1.0], [10, 100]) == pytest.approx([0.05, 0.995])
    with pytest.raises(DataError, match="no logit"):
        fit_line([0.1, 0.2, 0.3], [0.0, 0.1, 0.2])
    assert fit_line([0.1, 0.2, 0.3], [0.0, 0.1, 0.2], "linear").slope == pytest.approx(1)


def test_what_has_no_line_is_refused() -> None:
    with pytest.raises(DataError, match="at least 3 points, but there are 2"):
        fit_line([0.1, 0.2], [0.1, 0.2])
    with pytest.raises(DataError, match=r"all reference models have the accuracy 0\.5"):
        fit_line([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])
    assert np.isnan(fit_line([0.1, 0.2, 0.3], [0.4, 0.4, 0.4]).r2)


def test_a_pivot_takes_the_line_of_its_side() -> None:
    below, above = Fit("logit", 1.0, -3.0, 0.5), Fit("logit", 5.0, -9.0, 0.9)
    both = PivotFit(0.76, below, above)
    assert both.expected([0.5, 0.759]) == pytest.approx(below.expected([0.5, 0.759]))
    assert both.expected([0.76, 0.9]) == pytest.approx(above.expected([0.76, 0.9]))


def made_up_testbed(path, count: int = 40) -> pd.DataFrame:
    """Write a table of the testbed's columns with `count` of the baselines on known lines; return it in 0..1."""
    names = baselines.read_json(baselines.RESOURCE / "effective_robustness.json")["baselines"][:count]
    rng, rows = np.random.default_rng(1), {}
    for name in names:
        x = rng.uniform(0.56, 0.85)
        rows[name] = {"val": x} | {
            column: float(baselines.shipped_trends()[shift].fit.expected(x))
            for column, shift in baselines.TESTBED.items()
            if shift in baselines.SHIFTS
        }
        rows[name]["val-on-imagenet-r-classes"] = x + 0.1
    rows["a_model_with_more_data"] = dict.fromkeys(rows[names[0]], 0.9)
    rows[names[0]]["imagenet-a"] = 0.0
    rows[names[1]]["objectnet-1.0-beta"] = np.nan
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
    (100 * frame).assign(greyscale=50.0).to_csv(path)
    return frame


def test_trends_fitted_to_a_testbed_are_those_it_was_made_with(tmp_path) -> None:
    made_up_testbed(tmp_path / "top1s.csv")
    table = baselines.read_accuracies(tmp_path / "top1s.csv")
    trends, shipped = baselines.fitted_trends(table), baselines.shipped_trends()
    for shift in baselines.SHIFTS:
        assert trends[shift].fit.slope == pytest.approx(shipped[shift].fit.slope, rel=1e-6)
        assert trends[shift].fit.r2 == pytest.approx(1)
    sizes = {shift: len(trends[shift].points[0]) for shift in baselines.SHIFTS}
    assert sizes == {"imagenet-v2": 40, "imagenet-r": 40, "imagenet-sketch": 40, "objectnet": 39, "imagenet-a": 39}
    matched = baselines.fitted_trends(table, matched=True)["imagenet-r"]
    assert matched.x == baselines.MATCHED["imagenet-r"]
    both = baselines.fitted_trends(table, pivot=True)["imagenet-a"].fit
    assert isinstance(both, PivotFit) and both.pivot == 0.7613
    assert both.below.slope == pytest.approx(both.above.slope, rel=1e-6)


def test_the_table_has_intervals_and_bands(tmp_path) -> None:
    made_up_testbed(tmp_path / "top1s.csv")
    table = baselines.read_accuracies(tmp_path / "top1s.csv")
    made = baselines.effective_table(table, baselines.fitted_trends(table, pivot=True))
    assert list(made.columns) == baselines.COLUMNS
    row = made[(made["model"] == "a_model_with_more_data") & (made["shift"] == "imagenet-r")].iloc[0]
    low, high = sm.stats.proportion_confint(27_000, 30_000, alpha=0.005, method="beta")
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert row["expected_low"] <= row["expected"] <= row["expected_high"]
    assert row["effective"] == pytest.approx(100 * (0.9 - row["expected"]))
    assert made.loc[made["shift"] == "mean of 5", ["low", "high"]].isna().all(axis=None)
    assert made[["expected_low", "expected_high"]].notna().all(axis=None)
    shipped = baselines.effective_table(table, baselines.shipped_trends())
    assert shipped["expected_low"].isna().all() and len(shipped) == len(made)
    wide = baselines.wide_table(made)
    assert wide.index[-1] == "a_model_with_more_data" and list(wide.columns) == [*baselines.SHIFTS, *baselines.MEANS]


def test_open_clips_table_is_read(tmp_path) -> None:
    (tmp_path / "openclip.csv").write_text(
        "name,pretrained,Average perf. on 38 datasets,ImageNet 1k,ImageNet Sketch,ImageNet v2,ImageNet-A,ImageNet-R,"
        "ObjectNet\nRN50,openai,0.48,0.5982,0.3544,0.5284,0.2327,0.6073,0.4141\n",
        encoding="utf-8",
    )
    table = baselines.read_accuracies(tmp_path / "openclip.csv")
    assert table.loc["RN50/openai", "imagenet-a"] == 0.2327
    wide = baselines.wide_table(baselines.effective_table(table, baselines.shipped_trends()))
    golden = [6.1, 38.2, 22.9, 23.9, 22.7, 24.1]
    assert wide.loc["RN50/openai", [*baselines.SHIFTS, "mean of 5"]].tolist() == pytest.approx(golden, abs=0.1)


def test_a_mean_over_shifts_needs_all_of_them(tmp_path) -> None:
    head, rows = (
        f"model,imagenet,{','.join(baselines.SHIFTS)}",
        ["whole,0.6,0.5,0.4,0.3,0.2,0.1", "some,0.6,0.5,,0.3,0.2,"],
    )
    (tmp_path / "some.csv").write_text("\n".join([head, *rows, "most,0.6,0.5,0.4,0.3,0.2,"]), encoding="utf-8")
    table = baselines.read_accuracies(tmp_path / "some.csv")
    assert table["mean of 5"].tolist() == pytest.approx([0.3, np.nan, np.nan], nan_ok=True)
    assert table["mean of 4"].tolist() == pytest.approx([0.35, np.nan, 0.35], nan_ok=True)


def test_a_studys_own_robustness_table_is_read(tmp_path) -> None:
    keys = ["kind", "mixture", "seed", "set", "labels", "metric", "estimate"]
    rows = [
        ("clip", "cg-high", 1, "imagenet", "all", "top1", 0.5),
        ("clip", "cg-high", 1, "imagenet", "classes of imagenet-r", "top1", 0.55),
        ("clip", "cg-high", 1, "imagenet", "classes of my-sketches", "top1", 0.56),
        ("clip", "cg-high", 1, "imagenet-r", "all", "top1", 0.2),
        ("clip", "cg-high", 1, "imagenet-r", "subset", "top1", 0.3),
        ("clip", "cg-high", 1, "imagenet-r", "subset", "balanced_top1", 0.1),
        ("clip", "cg-high", 1, "my-sketches", "all", "top1", 0.9),
        ("supervised", "cg-high", 1, "imagenet", "all", "top1", 0.6),
        ("public", "openai", 0, "imagenet", "all", "top1", 0.7),
    ]
    pd.DataFrame(rows, columns=keys).to_parquet(tmp_path / "robustness.parquet")
    table = baselines.read_accuracies(tmp_path / "robustness.parquet")
    assert table["imagenet"].to_dict() == {"cg-high-s1": 0.5, "supervised cg-high-s1": 0.6, "openai": 0.7}
    assert table.loc["cg-high-s1", "imagenet-r"] == 0.3
    assert table.loc["cg-high-s1", baselines.MATCHED["imagenet-r"]] == 0.55


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model,imagenet-r\na,0.5\n", "no column for the accuracy on ImageNet"),
        ("imagenet,imagenet-r\n0.1,0.5\n", "no column 'model'"),
        ("model,imagenet\na,0.5\na,0.6\n", "names the model 'a' twice"),
        ("model,imagenet\na,many\n", "no accuracy"),
        ("model,imagenet\na,120\n", "outside 0 to 100"),
        ("model,imagenet\na,-0.1\n", "outside 0 to 100"),
        ("", "not a readable CSV"),
    ],
)
def test_tables_that_cannot_be_read_are_one_sentence(tmp_path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        baselines.read_accuracies(tmp_path / "table.csv")


def test_words_for_missing_values_are_names_of_models_and_no_accuracies(tmp_path) -> None:
    names = ["NA", "null", "None", "nan", "001", "1e3", ""]
    rows = [f"{name} ,0.5,{'NA' if name == 'NA' else '0.4'}" for name in names]
    text = "\ufeffmodel, imagenet,imagenet-r\r\n" + "\r\n".join(rows) + "\r\n\r\n"
    (tmp_path / "table.csv").write_text(text, encoding="utf-8", newline="")
    table = baselines.read_accuracies(tmp_path / "table.csv")
    assert table.index.tolist() == names
    assert table["imagenet"].tolist() == [0.5] * len(names)
    assert table["imagenet-r"].isna().tolist() == [name == "NA" for name in names]


def test_names_of_open_clip_s_models_may_be_any_word(tmp_path) -> None:
    columns = {
        "name": ["NA", "null"],
        "pretrained": ["None", "nan"],
        "ImageNet 1k": [0.5, 0.6],
        "ImageNet-R": [0.4, None],
    }
    pd.DataFrame(columns).to_csv(tmp_path / "table.csv", index=False)
    assert baselines.read_accuracies(tmp_path / "table.csv").index.tolist() == ["NA/None", "null/nan"]


def test_a_table_without_baseline_models_is_refused(tmp_path) -> None:
    (tmp_path / "table.csv").write_text("model,imagenet,imagenet-r\na,0.5,0.4\n", encoding="utf-8")
    with pytest.raises(DataError, match="0 of the 85 baseline models"):
        baselines.fitted_trends(baselines.read_accuracies(tmp_path / "table.csv"))
