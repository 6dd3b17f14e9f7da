"""Ranks: ties count against the true class, and blocks change nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domix.evaluate import metrics
from domix.evaluate.zeroshot import rank_right, rank_true


def test_a_model_that_says_the_same_of_everything_gets_nothing_right():
    image, text = np.ones((6, 4), dtype=np.float32), np.ones((3, 4), dtype=np.float32)
    label = np.array([0, 1, 2, 0, 1, 2])
    predicted, rank = rank_true(image, text, label)
    assert (rank == 3).all()
    assert (predicted != label).all()


def test_ranks_by_hand():
    text = np.eye(3, dtype=np.float32)
    image = np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1], [2, 2, 1]], dtype=np.float32)
    predicted, rank = rank_true(image, text, np.array([0, 1, 2, 0]))
    assert rank.tolist() == [1, 2, 3, 2]
    assert predicted.tolist() == [0, 0, 0, 1]


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 9), st.integers(1, 12))
def test_right_means_rank_one_whatever_the_block(seed, images, classes, block):
    rng = np.random.default_rng(seed)
    image = rng.integers(-2, 3, (images, 3)).astype(np.float32)
    text = rng.integers(-2, 3, (classes, 3)).astype(np.float32)
    label = rng.integers(0, classes, images)
    predicted, rank = rank_true(image, text, label, block=block)
    scores = image @ text.T
    for i in range(images):
        others = np.delete(scores[i], label[i])
        assert rank[i] == 1 + (others >= scores[i, label[i]]).sum()
        assert (predicted[i] == label[i]) == (rank[i] == 1)
        assert scores[i, predicted[i]] == scores[i].max()


def test_no_images_give_no_ranks_and_no_accuracy():
    predicted, rank = rank_true(np.ones((0, 4), np.float32), np.ones((3, 4), np.float32), np.zeros(0, np.int64))
    assert len(predicted) == len(rank) == 0
    nothing = np.zeros(0, dtype=np.int64)
    assert np.isnan(metrics.accuracy(nothing.astype(bool)))
    assert np.isnan(metrics.balanced_accuracy(nothing, nothing.astype(bool)))
    assert np.isnan(metrics.macro_f1(nothing, nothing))


@given(st.integers(0, 10_000), st.integers(1, 20), st.integers(1, 9), st.integers(1, 4))
def test_ranks_of_several_right_classes_are_those_of_counting_one_by_one(seed, images, classes, answers):
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (images, classes)).astype(np.float32)
    right = rng.integers(0, classes, (images, answers))
    predicted, rank = rank_right(scores.copy(), right)
    for i in range(images):
        best = max(scores[i, k] for k in right[i])
        ahead = [k for k in range(classes) if k not in right[i] and scores[i, k] >= best]
        assert rank[i] == 1 + len(ahead)
        assert (predicted[i] in right[i]) == (rank[i] == 1)
        assert scores[i, predicted[i]] == (scores[i, ahead].max() if ahead else best)


def test_scores_that_are_no_numbers_are_never_right():
    scores = np.full((2, 3), np.nan, dtype=np.float32)
    assert rank_right(scores, np.array([[0], [2]]))[1].tolist() == [3, 3]
