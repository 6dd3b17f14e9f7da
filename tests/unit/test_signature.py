"""Signatures: which directions are pruned, what does not change them, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from domix.runtime.errors import DataError, ParameterError
from domix.signature.directions import axis_alignment, cosines, head_directions, head_importance, heavy_tail
from domix.signature.kurtosis import activation_kurtosis
from domix.signature.outliers import large_features, outlier_features
from domix.signature.pruning import correct_when_pruned, kept_count, pruning_order

RNG = np.random.default_rng(0)
ACTIVATIONS = RNG.normal(size=(40, 6))
HEAD = RNG.normal(size=(9, 6))
LABELS = np.zeros(40, dtype=np.int64)


@pytest.mark.parametrize(
    ("directions", "percent", "kept"),
    [(64, 0, 64), (64, 10, 58), (64, 95, 4), (64, 99, 1), (64, 100, 0), (10, 99, 1), (1000, 2.9, 971), (7, 50, 4)],
)
def test_a_share_is_pruned_in_whole_directions_rounded_down(directions: int, percent: float, kept: int) -> None:
    assert kept_count(directions, percent) == kept


def test_of_equal_directions_the_one_that_stands_further_back_is_pruned_first() -> None:
    assert pruning_order([3.0, 1.0, 2.0, 1.0, 1.0]).tolist() == [4, 3, 1, 2, 0]


def test_turning_the_space_moves_kurtosis_but_no_importance() -> None:
    moved = ACTIVATIONS + np.array([9.0, 0, 0, 0, 0, 0])
    turn = np.array([[1.0, 1], [1, -1]]) / np.sqrt(2)
    turn = np.kron(np.eye(3), turn)
    np.testing.assert_allclose(head_importance(HEAD @ turn, moved @ turn), head_importance(HEAD, moved))
    assert activation_kurtosis(moved).mean() > activation_kurtosis(moved @ turn).mean() + 0.5


def test_the_scale_of_an_image_counts_for_nothing() -> None:
    scaled = ACTIVATIONS * RNG.uniform(0.1, 9, (40, 1))
    np.testing.assert_allclose(activation_kurtosis(scaled), activation_kurtosis(ACTIVATIONS))
    np.testing.assert_allclose(head_importance(HEAD, scaled), head_importance(HEAD, ACTIVATIONS))


def test_a_head_has_no_more_directions_than_it_spans() -> None:
    narrow = (RNG.normal(size=(50, 5)) @ RNG.normal(size=(5, 12))).astype(np.float32)
    directions = head_directions(narrow)
    assert directions.right.shape == (5, 12) and directions.left.shape == (50, 5)
    assert len(head_directions(narrow.astype(np.float16)).singular_values) == 12  # its rounding is no zero
    assert len(head_directions(HEAD[:4]).singular_values) == 4


def test_alignment_with_axes() -> None:
    directions = head_directions(np.diag([5.0, 3.0, 1.0]))
    np.testing.assert_allclose(axis_alignment(directions, [1, 0]), [[0, 1], [1, 0], [0, 0]], atol=1e-12)


def test_a_mean_of_no_length_has_no_cosine() -> None:
    both = np.concatenate([ACTIVATIONS, -ACTIVATIONS])
    assert np.isnan(cosines(head_directions(HEAD), np.round(8 * both)).with_mean).all()


@pytest.mark.parametrize("found", [activation_kurtosis, outlier_features, large_features])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(found, value: float) -> None:
    broken = ACTIVATIONS.copy()
    broken[5, 1] = value
    with pytest.raises(DataError, match=r"^activations are not finite \(row 5\)"):
        found(broken)
    with pytest.raises(DataError, match=r"^activations are not finite \(row 5\)"):
        head_importance(HEAD, broken)
    with pytest.raises(DataError, match=r"^activations are not finite \(row 5\)"):
        correct_when_pruned(head_directions(HEAD), broken, LABELS, np.arange(6))
    head = HEAD.copy()
    head[2, 2] = value
    with pytest.raises(DataError, match=r"^the head's weights are not finite \(row 2\)"):
        head_directions(head)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e8])
def test_constant_activations_have_no_kurtosis(value: float) -> None:
    dead = np.concatenate([RNG.normal(size=(600, 6)), np.full((1, 6), value)])
    with pytest.raises(DataError, match=r"^all components of the activation of image 600 are equal"):
        activation_kurtosis(dead)


def test_zero_activations_are_refused() -> None:
    dead = np.concatenate([RNG.normal(size=(2100, 6)), np.zeros((1, 6))])
    for measure in (outlier_features, lambda values: head_importance(HEAD, values)):
        with pytest.raises(DataError, match=r"^the activation of image 2100 is zero: leave it out$"):
            measure(dead)
    with pytest.raises(DataError, match=r"^the head is zero, so that it has no directions: was it trained"):
        head_directions(np.zeros((3, 4)))
    with pytest.raises(DataError, match=r"^the importances of all directions are zero"):
        heavy_tail(np.zeros(4))


def test_a_head_of_another_width_is_refused() -> None:
    says = "^the head is 6 wide, but the activations 5: give those that it reads$"
    with pytest.raises(DataError, match=says):
        head_importance(HEAD, ACTIVATIONS[:, :5])
    with pytest.raises(DataError, match=says):
        correct_when_pruned(head_directions(HEAD), ACTIVATIONS[:, :5], LABELS, np.arange(6))


def test_fewer_images_than_directions_are_refused() -> None:
    with pytest.raises(DataError, match=r"^there are 5 images for the head's 6 directions: give at least as many$"):
        head_importance(HEAD, ACTIVATIONS[:5])
    assert len(head_importance(HEAD, ACTIVATIONS[:6])) == 6


def test_pruning_refuses_what_does_not_fit() -> None:
    directions = head_directions(HEAD)
    with pytest.raises(DataError, match=r"^there is a label 9, but the head has 9 classes"):
        correct_when_pruned(directions, ACTIVATIONS, LABELS + 9, np.arange(6))
    with pytest.raises(DataError, match=r"^the order of pruning must name each of the 6 directions once$"):
        correct_when_pruned(directions, ACTIVATIONS, LABELS, np.array([0, 1, 2, 3, 4, 4]))
    with pytest.raises(DataError, match=r"^labels are of shape \(39,\), but there are 40 images"):
        correct_when_pruned(directions, ACTIVATIONS, LABELS[1:], np.arange(6))
    for percent in (-1, 100.5):
        with pytest.raises(ParameterError, match=f"^{percent:g} % cannot be pruned: give shares from 0 to 100$"):
            kept_count(6, percent)


def test_ties_go_against_the_right_class() -> None:
    twins = head_directions(np.array([[1.0, 0], [1.0, 0], [0, 1.0]]))
    found = correct_when_pruned(twins, np.array([[1.0, 0], [0, 1.0]]), np.array([0, 2]), np.arange(2)[::-1], [0])
    assert found.tolist() == [[False, True]]
