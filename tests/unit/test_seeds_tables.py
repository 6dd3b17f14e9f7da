"""Mixtures over their seeds: whose draws are shared, and whose are their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from domix.evaluate.outcomes import Outcome, Plan, RunOutcomes, ScoredModel, groups
from domix.evaluate.ranking import Ranks
from domix.evaluate.seeds_tables import arms, pairs, seeds_tables
from domix.evaluate.tables import metric_table
from domix.study import Run, Study

CLASSES = tuple(f"thing_{k:02d}" for k in range(20))
PLAN = Plan(
    Study("sketch", "real", test_classes=CLASSES, domains=("real", "sketch"), classes=CLASSES),
    top_k=1,
    resamples=2000,
    confidence=0.9,
    seed=0,
)
ROWS = pd.DataFrame(
    [(d, c, k) for d in ("real", "sketch") for k, c in enumerate(CLASSES) for _ in range(3)],
    columns=["domain", "class", "label"],
)
ROWS.insert(0, "row", np.arange(len(ROWS)))
SKILLS = (0.2, 0.5, 0.8)  # of the seeds of one mixture


def run(kind: str, mixture: str, seed: int, skill: float, draw: int) -> RunOutcomes:
    """A model that is right where a draw of its own says so."""
    rank = np.where(np.random.default_rng(draw).random(len(ROWS)) < skill, 1, 2).astype(np.int32)
    label = ROWS["label"].to_numpy(np.int32)
    predicted = np.where(rank == 1, label, (label + 1) % len(CLASSES)).astype(np.int32)
    model = ScoredModel(Run(kind, mixture, seed), mixture, Path())
    return RunOutcomes(model, [Outcome(model, 1, ROWS, Ranks(predicted, rank, rank))])


def tables(draws: Mapping[tuple[str, str], int]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Three seeds of each (kind, mixture); those of one draw answer alike, seed by seed."""
    runs = [run(*name, seed, skill, 10 * n + seed) for name, n in draws.items() for seed, skill in enumerate(SKILLS)]
    mixtures, comparisons = seeds_tables(runs, metric_table([one.final for one in runs], PLAN), PLAN)
    chosen = "domain == 'sketch' and cells == 'held_out' and metric == 'balanced_top1'"
    keys = ["kind", "mixture"]
    return mixtures.query(chosen).set_index(keys), comparisons.query(chosen).set_index(keys)


def width(row: pd.Series) -> float:
    return float(row["high"] - row["low"])


def test_every_mixture_draws_its_own_seeds():
    """Seed 1 of one mixture and seed 1 of another have nothing in common, though these answer alike."""
    over, compared = tables({("clip", "natural-only"): 0, ("clip", "cg-high"): 0})
    change = compared.loc["clip", "cg-high"]
    assert change["difference"] == 0
    assert change["low"] < -0.1 < 0.1 < change["high"]
    spread = np.std(SKILLS) / np.sqrt(len(SKILLS))  # of a mean of drawn seeds; the difference has two of them
    assert width(change) == pytest.approx(2 * 1.645 * np.sqrt(2) * spread, rel=0.1)
    assert change["detectable"] == pytest.approx((1.645 + 0.842) * np.sqrt(2) * spread, rel=0.1)
    ends = over[["low", "high"]].to_numpy()
    assert not np.array_equal(ends[0], ends[1])


def test_kinds_draw_their_own_seeds():
    over, _ = tables({("clip", "cg-high"): 0, ("supervised", "cg-high"): 0})
    clip, supervised = over.loc["clip", "cg-high"], over.loc["supervised", "cg-high"]
    assert clip["estimate"] == supervised["estimate"]
    assert (clip["low"], clip["high"]) != (supervised["low"], supervised["high"])


def test_a_mixture_keeps_its_numbers_whoever_stands_beside_it():
    few, compared = tables({("clip", "natural-only"): 0, ("clip", "cg-high"): 1})
    more, others = tables({("clip", "cg-low"): 2, ("clip", "cg-high"): 1, ("clip", "natural-only"): 0})
    for name in (("clip", "natural-only"), ("clip", "cg-high")):
        pd.testing.assert_series_equal(few.loc[name], more.loc[name])
    names = ["baseline", "difference", "low", "high", "p_value", "detectable"]
    one = others[others["baseline"] == "natural-only"].loc[("clip", "cg-high"), names]
    pd.testing.assert_series_equal(compared.loc[("clip", "cg-high"), names], one)


def test_images_are_drawn_once_for_all_mixtures():
    """One seed each, alike but for few images: the difference is far surer than either estimate."""
    near, base = run("clip", "cg-high", 0, 0.5, 3), run("clip", "natural-only", 0, 0.5, 3)
    near.final.ranks.rank[-2:] = 3 - near.final.ranks.rank[-2:]
    runs = [base, near]
    over, compared = seeds_tables(runs, metric_table([one.final for one in runs], PLAN), PLAN)
    chosen = "domain == 'sketch' and cells == 'held_out' and metric == 'balanced_top1'"
    assert width(compared.query(chosen).iloc[0]) < 0.5 * over.query(chosen).apply(width, axis=1).min()


def test_groups_of_images_are_drawn_apart():
    """Else the intervals of two groups would move together; and another seed draws all of them anew."""
    found = list(groups(ROWS, replace(PLAN, study=replace(PLAN.study, test_classes=CLASSES[:5]))))
    assert len(found) == 6
    draws = [group.seed(replace(PLAN, seed=seed)) for seed in (0, 1) for group in found]
    assert len(set(draws)) == len(draws)


def test_of_two_baselines_the_first_is_the_baseline():
    runs = [run("clip", name, 0, 0.5, n) for n, name in enumerate(("mine", "cg-high-all", "cg-low", "natural-only"))]
    runs.append(run("supervised", "natural-only", 0, 0.5, 9))
    every = arms(runs)
    named = [(every[other].keys["mixture"], every[base].keys["mixture"]) for other, base in pairs(every)]
    assert named == [
        ("mine", "natural-only"), ("cg-high-all", "natural-only"), ("cg-low", "natural-only"),
        ("mine", "cg-low"), ("cg-high-all", "cg-low"), ("mine", "cg-high-all"),
    ]  # fmt: skip
