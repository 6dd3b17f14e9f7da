"""Answers on further sets: which are right, among which labels, and the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from domix.evaluate.outcomes import RunOutcomes, ScoredModel
from domix.evaluate.robustness import ALL, SUBSET, View, classify_set, classify_views, robustness_table, set_curves
from domix.evaluate.schemas import CURVES, ROBUSTNESS
from domix.evaluate.zeroshot import rank_true
from domix.runs import Run
from domix.runtime.errors import DataError
from domix.runtime.tables import write_table
from tests.fakes import make_index, write_embeddings
from tests.scored_sets import PLAN, write_set

CLASSES = 12


def scores_with_ties(count: int, classes: int = CLASSES, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 6, size=(count, classes)).astype(np.float32)


def blocks(scores: np.ndarray, size: int = 7) -> list[np.ndarray]:
    return [scores[start : start + size].copy() for start in range(0, len(scores), size)]


def by_a_loop(scores: np.ndarray, label: np.ndarray, subset: Any, answers: Any) -> tuple[list[int], list[int]]:
    """Sort the labels of each image, wrong ones first where they are equal, and look where a right one stands."""
    predicted, rank = [], []
    for row, own in zip(scores, label, strict=True):
        right = {int(own)} if answers is None else set(answers[own])
        allowed = range(len(row)) if subset is None else subset
        order = sorted(allowed, key=lambda name: (-row[name], name in right, name))
        best = next(name for name in order if name in right)
        before = [name for name in order[: order.index(best)] if name not in right]
        rank.append(1 + len(before))
        predicted.append(order[0])
    return predicted, rank


ANSWERS = [[0], [1, 5, 9], [2, 3]]


@pytest.mark.parametrize("subset", [None, [0, 1, 2, 5, 8, 9]])
@pytest.mark.parametrize("answers", [None, ANSWERS])
def test_predictions_and_ranks_are_those_of_an_obvious_loop(subset, answers):
    for seed in range(20):
        scores = scores_with_ties(50, seed=seed)
        label = np.random.default_rng(seed).integers(0, 3, size=50)
        judged = classify_set(blocks(scores), label, subset=subset, answers=answers)
        predicted, rank = by_a_loop(scores, label, subset, answers)
        assert judged.rank.tolist() == rank
        assert judged.predicted.tolist() == predicted
        of_label = [[own] if answers is None else answers[own] for own in label]
        assert judged.right().tolist() == [said in right for said, right in zip(predicted, of_label, strict=True)]
        assert judged.right(3).tolist() == [place <= 3 for place in rank]


def test_without_a_subset_it_is_zero_shot_classification():
    generator = np.random.default_rng(1)
    image = generator.integers(-2, 3, size=(40, 3)).astype(np.float32)
    text = generator.integers(-2, 3, size=(CLASSES, 3)).astype(np.float32)
    label = generator.integers(0, CLASSES, size=40)
    predicted, rank = rank_true(image, text, label)
    judged = classify_set(blocks(image @ text.T), label)
    np.testing.assert_array_equal(judged.predicted, predicted)
    np.testing.assert_array_equal(judged.rank, rank)


def test_a_model_that_says_the_same_of_everything_gets_nothing_right():
    label = np.arange(CLASSES)
    judged = classify_set([np.zeros((CLASSES, CLASSES), np.float32)], label, subset=range(CLASSES))
    assert not judged.right(CLASSES - 1).any()
    assert judged.right(CLASSES).all()


def test_scores_are_left_as_they_are():
    scores = scores_with_ties(10)
    before = scores.copy()
    classify_set([scores], np.zeros(10, dtype=np.int64), answers=ANSWERS)
    np.testing.assert_array_equal(scores, before)


def test_views_in_one_pass_are_those_of_single_passes():
    scores, label = scores_with_ties(60), np.random.default_rng(0).integers(0, 3, size=60)
    views = [View("a"), View("b", [0, 1, 2], None), View("c", [0, 1], None, label < 2), View("d", None, ANSWERS)]
    together = classify_views(blocks(scores), label, views)
    for view, judged in zip(views, together, strict=True):
        some = slice(None) if view.images is None else view.images
        alone = classify_set([scores[some]], label[some], subset=view.subset, answers=view.answers)
        for name in ("label", "predicted", "rank"):
            np.testing.assert_array_equal(getattr(judged, name), getattr(alone, name))


def test_a_label_without_a_right_answer():
    with pytest.raises(DataError, match="no right answer of label 2 is in the view 'all'"):
        classify_set([scores_with_ties(3)], np.array([0, 1, 2]), subset=[0, 1, 5])


@pytest.mark.parametrize("count", [2, 4])
def test_scores_of_more_or_fewer_images(count):
    with pytest.raises(DataError, match=f"there are scores of {count} images, but labels of 3"):
        classify_set([scores_with_ties(count)], np.zeros(3, dtype=np.int64))


# Tables -------------------------------------------------------------------------------------------


LABELS = np.repeat(np.arange(CLASSES), 5)
IN_R = np.repeat([0, 3, 7], 5)


@pytest.fixture
def models(tmp_path: Path) -> list[ScoredModel]:
    """Write three models' scores on four sets; the classifier has no outputs for one of them."""
    made = []
    for seed, kind in enumerate(["clip", "supervised", "public"]):
        folder = tmp_path / kind / "one"
        model = ScoredModel(Run(kind, "one", seed), "one", folder=folder)
        made.append(model)
        for name, label, judged in (
            ("imagenet", LABELS, {}),
            ("imagenet-r", IN_R, {"subset": [0, 3, 7]}),
            ("objectnet", np.repeat([0, 1, 2], 4), {"subset": [0, 1, 2, 3, 5, 9], "answers": ANSWERS}),
            ("own", np.array([0, 1, 1]), {}),
        ):
            if (kind, name) != ("supervised", "own"):
                scores = scores_with_ties(len(label), seed=seed) + np.float32(0.5)
                write_set(folder, name, label, scores, kind=kind, **judged)
    return made


SETS = ["imagenet", "imagenet-r", "objectnet", "own"]


def test_the_table_has_a_row_a_model_set_view_and_metric(models):
    table = robustness_table(models, SETS, PLAN)
    assert list(table.columns) == ROBUSTNESS.names
    views = [("imagenet", ALL), ("imagenet", "classes of imagenet-r"), ("imagenet", "classes of objectnet")]
    views += [("imagenet-r", ALL), ("imagenet-r", SUBSET), ("objectnet", ALL), ("objectnet", SUBSET), ("own", ALL)]
    three, few = ["top1", "top5", "balanced_top1"], ["top1", "balanced_top1"]  # few: imagenet-r has three labels here
    metrics = {view: few if view in (views[1], views[4]) else three for view in views}
    for model in models:
        part = table[table["kind"] == model.run.kind]
        there = views[:-1] if model.run.kind == "supervised" else views
        expected = [(name, labels, metric) for name, labels in there for metric in metrics[name, labels]]
        assert list(part[["set", "labels", "metric"]].itertuples(index=False, name=None)) == expected
        assert set(part["seed"]) == {model.run.seed}
    sizes = table[["set", "labels", "n", "n_classes"]].drop_duplicates().set_index(["set", "labels"])
    assert [tuple(sizes.loc[view]) for view in views] == [
        (60, 12), (15, 3), (30, 6), (15, 3), (15, 3), (12, 3), (12, 3), (3, 2)
    ]  # fmt: skip
    assert ((table["low"] <= table["estimate"]) & (table["estimate"] <= table["high"])).all()
    assert set(table.loc[table["metric"] != "balanced_top1", "method"]) == {"clopper-pearson"}


def test_its_estimates_are_those_of_an_obvious_loop(models):
    table = robustness_table(models, SETS, PLAN).set_index(["kind", "set", "labels", "metric"])["estimate"]
    siblings = [[label] for label in range(CLASSES)]
    for group in ANSWERS:
        for label in group:
            siblings[label] = group
    own = np.repeat([0, 1, 2], 4)
    cases: list[tuple[str, str, np.ndarray, Any, Any]] = [
        ("imagenet", ALL, LABELS, None, None),
        ("imagenet", "classes of imagenet-r", LABELS, [0, 3, 7], None),
        ("imagenet", "classes of objectnet", LABELS, [0, 1, 2, 3, 5, 9], siblings),
        ("imagenet-r", SUBSET, IN_R, [0, 3, 7], None),
        ("objectnet", ALL, own, None, ANSWERS),
        ("objectnet", SUBSET, own, [0, 1, 2, 3, 5, 9], ANSWERS),
    ]
    for model in models:
        for name, labels, label, subset, answers in cases:
            scores = scores_with_ties(len(label), seed=model.run.seed)
            some = np.isin(label, subset) if labels.startswith("classes") else np.ones(len(label), dtype=bool)
            _, rank = by_a_loop(scores[some], label[some], subset, answers)
            right = pd.Series(np.array(rank) == 1)
            expected = {
                "top1": right.mean(),
                "top5": np.mean(np.array(rank) <= 5),
                "balanced_top1": right.groupby(label[some]).mean().mean(),
            }
            for metric, value in expected.items():
                if metric == "top5" and subset == [0, 3, 7]:
                    continue  # all labels are among the best five
                assert table[model.run.kind, name, labels, metric] == pytest.approx(value)


@pytest.mark.parametrize(("top_k", "there"), [(2, True), (3, False), (4, False)])
def test_the_best_k_of_k_labels_or_fewer_are_not_reported(models, top_k, there):
    """Some right label is always among them."""
    table = robustness_table(models, SETS, replace(PLAN, top_k=top_k))
    metrics = table[(table["set"] == "imagenet-r") & (table["labels"] == SUBSET)].groupby("kind")["metric"].agg(set)
    assert (metrics == {"top1", "balanced_top1"} | ({f"top{top_k}"} if there else set())).all()


def test_curves_follow_every_checkpoint_in_all_labels_and_in_the_sets_own(models, tmp_path):
    model = ScoredModel(Run("clip", "two", 3), "two", folder=tmp_path / "two")
    write_embeddings(model.folder, make_index({"real": [1] * CLASSES}))
    (model.folder / "checkpoints" / "004").mkdir(parents=True)  # the last weights come after it
    named = {"imagenet": (LABELS, {}), "imagenet-r": (IN_R, {"subset": [0, 3, 7]})}
    scores = {name: [scores_with_ties(len(label), seed=n) for n in (1, 2)] for name, (label, _) in named.items()}
    for name, (label, judged) in named.items():
        first, last = scores[name]
        write_set(model.folder, name, label, last, checkpoints={4: first}, **judged)
    found = set_curves([RunOutcomes(one, []) for one in (model, models[2])], ["imagenet", "imagenet-r", "own"], PLAN)
    assert list(found.columns) == CURVES.names
    assert set(zip(found["kind"], found["mixture"], found["seed"], strict=True)) == {("clip", "two", 3)}
    table = found.set_index(["domain", "checkpoint", "cells", "metric"])["estimate"]
    views = [("imagenet", ALL, None), ("imagenet-r", ALL, None), ("imagenet-r", SUBSET, [0, 3, 7])]
    assert len(table) == len(views) * 2 * 2
    for name, view, subset in views:
        label = named[name][0]
        for epoch, answers in zip((4, 5), scores[name], strict=True):
            right = pd.Series(np.array(by_a_loop(answers, label, subset, None)[1]) == 1)
            assert table[name, epoch, view, "top1"] == pytest.approx(right.mean())
            assert table[name, epoch, view, "balanced_top1"] == pytest.approx(right.groupby(label).mean().mean())


def test_no_sets_make_an_empty_table(models):
    table = robustness_table(models, [], PLAN)
    assert list(table.columns) == ROBUSTNESS.names
    assert table.empty
    assert table.dtypes.equals(robustness_table(models, SETS, PLAN).dtypes)


def test_resampling_is_the_same_for_all_models_and_every_time(models):
    one, other = robustness_table(models, SETS, PLAN), robustness_table(models[::-1], SETS[::-1], PLAN)
    keys = ROBUSTNESS.names[:6]
    pd.testing.assert_frame_equal(one.sort_values(keys, ignore_index=True), other.sort_values(keys, ignore_index=True))


def damaged(change: Callable[[Path], None], models: list[ScoredModel], name: str = "own") -> str:
    change(models[0].folder / "sets" / name)
    with pytest.raises(DataError) as caught:
        robustness_table(models, SETS, PLAN)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_set_that_was_not_embedded(models):
    message = damaged(lambda home: home.rename(home.parent / "elsewhere"), models)
    assert message.endswith("sets/own is missing")


def test_models_that_were_tested_on_different_images(models):
    def change(home: Path) -> None:
        rows = pd.read_parquet(home / "rows.parquet").assign(row=[2, 1, 0])
        write_table(home / "rows.parquet", rows)

    assert damaged(change, models).endswith("were tested on different images of own")


def test_scores_that_are_not_finite(models):
    def change(home: Path) -> None:
        image = np.load(home / "image.npy")
        image[1, 2] = np.nan
        np.save(home / "image.npy", image)

    assert "NaN" in damaged(change, models)
