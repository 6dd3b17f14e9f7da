"""Ranks from blocks of scores are those of the prototypes, ties and subsets of classes included."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from domix.evaluate.ranking import rank_blocks
from domix.evaluate.zeroshot import rank_true


@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 9), st.integers(1, 12), st.integers(0, 9))
def test_ranks_of_blocks_are_those_of_all_at_once(seed, images, classes, block, subset):
    """Small whole numbers: products are exact, whatever their order, and ties are many."""
    rng = np.random.default_rng(seed)
    image = rng.integers(-2, 3, (images, 3)).astype(np.float32)
    text = rng.integers(-2, 3, (classes, 3)).astype(np.float32)
    label = rng.integers(0, classes, images)
    among = np.flatnonzero(rng.permutation(classes) < subset)
    parts = (image[start : start + block] @ text.T for start in range(0, images, block))
    made = rank_blocks(parts, label, among)
    predicted, rank = rank_true(image, text, label)
    np.testing.assert_array_equal(made.predicted, predicted)
    np.testing.assert_array_equal(made.rank, rank)
    inside = np.isin(label, among)
    if inside.any():
        _, expected = rank_true(image[inside], text[among], np.searchsorted(among, label[inside]))
        np.testing.assert_array_equal(made.rank_among[inside], expected)
    assert not made.rank_among[~inside].any()
