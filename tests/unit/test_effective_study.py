"""Effective robustness within a study: residuals of made-up trajectories that follow known curves."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from domix.evaluate.effective import TRANSFORMS, backward, fit_line, forward, study_rows
from domix.evaluate.schemas import EFFECTIVE
from tests.scored_sets import PLAN

EPOCHS = range(0, 9, 2)


def curve(kind: str, mixture: str, seed: int, lift: float, epochs=EPOCHS, n: int = 300) -> list[dict[str, object]]:
    """Return a trajectory whose held-out accuracy lies `lift` logits above logit(y) = 0.8 logit(x) - 1.5."""
    rows = []
    for epoch in epochs:
        x = 0.05 + 0.1 * epoch + 0.002 * seed
        y = float(backward(0.8 * forward(x, "logit") - 1.5 + lift, "logit"))
        own = {"kind": kind, "mixture": mixture, "seed": seed, "checkpoint": epoch, "n": n, "n_classes": 15}
        for domain, cells, metric, estimate in (
            ("real", "tested", "balanced_top1", x),
            ("sketch", "held_out", "balanced_top1", y),
            ("sketch", "held_out", "top1", 0.99),
            ("sketch", "seen", "balanced_top1", 0.98),
            ("clipart", "tested", "balanced_top1", 0.97),
        ):
            rows.append(own | {"domain": domain, "cells": cells, "metric": metric, "estimate": estimate})
    return rows


def measured(*curves: list[dict[str, object]], reference: str | None = "natural-only") -> pd.DataFrame:
    return study_rows(pd.DataFrame([row for rows in curves for row in rows]), PLAN, reference=reference)


def test_residuals_are_measured_from_the_references_curve() -> None:
    made = measured(
        curve("clip", "natural-only", 0, 0.0), curve("clip", "natural-only", 1, 0.0), curve("clip", "cg-high", 0, 0.7)
    )
    assert list(made.columns) == EFFECTIVE.names
    assert len(made) == 3 * len(EPOCHS) * len(TRANSFORMS)
    logit = made[made["transform"] == "logit"]
    own, other = logit[logit["mixture"] == "natural-only"], logit[logit["mixture"] == "cg-high"]
    assert own["residual"].abs().max() < 1e-9
    assert other["expected"].to_numpy() == pytest.approx(backward(0.8 * forward(other["x"], "logit") - 1.5, "logit"))
    assert other["residual"].to_numpy() == pytest.approx((other["y"] - other["expected"]).to_numpy())
    assert (other["residual"] > 0).all()
    assert (made["low"] <= made["expected"] + 1e-9).all() and (made["expected"] <= made["high"] + 1e-9).all()
    assert set(made["reference"]) == {"natural-only"}
    assert (made["x_name"].iloc[0], made["y_name"].iloc[0]) == (
        "real tested balanced_top1",
        "sketch held_out balanced_top1",
    )


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_every_transform_is_a_fit_of_its_own(transform: str) -> None:
    reference = curve("clip", "natural-only", 0, 0.0)
    made = measured(reference, curve("clip", "cg-high", 0, 0.7)).query("transform == @transform")
    own = made[made["mixture"] == "natural-only"]
    fit = fit_line(own["x"], own["y"], transform)  # ty: ignore
    assert made["expected"].to_numpy() == pytest.approx(fit.expected(made["x"]))


def test_classifiers_are_measured_by_classifiers_and_public_models_by_clip() -> None:
    made = measured(
        curve("clip", "natural-only", 0, 0.0),
        curve("supervised", "natural-only", 0, -1.0),
        curve("supervised", "cg-high", 0, -1.0),
        curve("public", "openai", 0, 0.0, epochs=[7]),
    )
    logit = made[made["transform"] == "logit"]
    assert logit["residual"].abs().max() < 1e-9
    assert set(logit["kind"]) == {"clip", "supervised", "public"}


def test_nothing_right_counts_as_half_an_image() -> None:
    rows = curve("clip", "natural-only", 0, 0.0)
    for row in rows:
        if row["checkpoint"] == 0 and row["metric"] == "balanced_top1":
            row["estimate"] = 0.0
    made = measured(rows).query("transform == 'logit' and checkpoint == 0").iloc[0]
    assert (made["x"], made["y"]) == (0.0, 0.0)
    others = [row for row in rows if row["checkpoint"] and row["metric"] == "balanced_top1"]
    x = [0.5 / 300] + [float(row["estimate"]) for row in others if row["domain"] == "real"]
    y = [0.5 / 300] + [
        float(row["estimate"]) for row in others if (row["domain"], row["cells"]) == ("sketch", "held_out")
    ]
    assert made["expected"] == pytest.approx(float(fit_line(x, y).expected(0.5 / 300)))
    assert made["residual"] == pytest.approx(-made["expected"])


@pytest.mark.parametrize(
    ("rows", "reference", "count"),
    [
        (curve("clip", "natural-only", 0, 0.0, epochs=[2, 4]), "natural-only", 2),
        (curve("clip", "natural-only", 0, 0.0, [4]) + curve("clip", "natural-only", 1, 0.0, [4]), "natural-only", 1),
        (curve("clip", "cg-high", 0, 0.0), None, 0),
        (curve("supervised", "cg-high", 0, 0.0), "natural-only", 0),
    ],
)
def test_without_a_curve_there_are_no_rows_and_the_log_says_why(caplog, rows, reference, count: int) -> None:
    with caplog.at_level(logging.INFO):
        made = measured(rows, reference=reference)
    assert list(made.columns) == EFFECTIVE.names and len(made) == 0
    assert len(caplog.messages) == 1
    assert f"{count} checkpoints of natural images alone, a curve needs 3" in caplog.messages[0]


def test_a_checkpoint_without_one_of_the_accuracies_is_left_out() -> None:
    rows = [row for row in curve("clip", "cg-high", 0, 0.5) if row["checkpoint"] != 2 or row["domain"] != "real"]
    made = measured(curve("clip", "natural-only", 0, 0.0), rows)
    assert sorted(set(made.query("mixture == 'cg-high'")["checkpoint"])) == [0, 4, 6, 8]
    assert np.isfinite(made[["expected", "low", "high"]]).all(axis=None)
