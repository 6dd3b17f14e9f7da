"""Pseudo-labels: the nearest text, how sure it is, and what cannot be labelled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from domix.ood.probes.pseudo_labels import class_texts, pseudo_labels
from domix.runtime.errors import DataError

N, D, J, C = 9000, 12, 8, 5  # more images than a block holds


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    text = rng.normal(size=(C, J))
    features = rng.normal(size=(N, D)) * rng.uniform(0.1, 20, size=(N, 1))
    return (
        features.astype(np.float32),
        (text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32),
        (rng.normal(size=(D, J)) * 3).astype(np.float32),
    )


def literal(features: np.ndarray, text: np.ndarray, projection: np.ndarray | None, scale: float, *, again: bool):
    """PLP's code: normalised features, projected, not normalised again (which `again` does)."""
    v = F.normalize(torch.from_numpy(features).double(), dim=-1)
    if projection is not None:
        v = v @ torch.from_numpy(projection).double()
    if again:
        v = F.normalize(v, dim=-1)
    p = (scale * v @ torch.from_numpy(text).double().T).softmax(dim=-1)
    return p.argmax(dim=-1).numpy(), p.max(dim=-1).values.numpy()


@pytest.mark.parametrize("parity", [False, True])
def test_labels_and_confidence(parity: bool) -> None:
    features, text, projection = data()
    found = pseudo_labels(features, text, projection=projection, logit_scale=7.5, parity=parity)
    labels, confidence = literal(features, text, projection, 7.5, again=not parity)
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.confidence, confidence, rtol=2e-4)
    assert found.labels.dtype == np.int64 and found.counts.tolist() == np.bincount(labels, minlength=C).tolist()


def test_the_reference_is_wrong_about_confidence_alone() -> None:
    features, text, projection = data()
    right = pseudo_labels(features, text, projection=projection, logit_scale=7.5)
    wrong = pseudo_labels(features, text, projection=projection, logit_scale=7.5, parity=True)
    np.testing.assert_array_equal(right.labels, wrong.labels)
    assert np.abs(right.confidence - wrong.confidence).max() > 0.1


def test_without_a_projection_both_agree() -> None:
    features, _, projection = data()
    joint, text = features @ projection, data()[1]
    for parity in (False, True):
        found = pseudo_labels(joint, text, logit_scale=3, parity=parity)
        labels, confidence = literal(joint, text, None, 3, again=False)
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_allclose(found.confidence, confidence, rtol=2e-4)


def test_a_bias_is_added_before_lengths_are_taken() -> None:
    features, text, projection = data()
    bias = np.random.default_rng(3).normal(size=J).astype(np.float32) * 20
    one = pseudo_labels(features, text, projection=projection, bias=bias)
    other = pseudo_labels(features @ projection + bias, text)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert (one.labels != pseudo_labels(features, text, projection=projection).labels).any()


def test_the_scale_of_clip_is_a_hundred() -> None:
    features, text, projection = data()
    default = pseudo_labels(features @ projection, text).confidence
    np.testing.assert_array_equal(default, pseudo_labels(features @ projection, text, logit_scale=100).confidence)


def test_equal_texts_give_all_to_the_first_and_leave_the_other_empty() -> None:
    features, text, projection = data()
    text[3] = text[1]
    found = pseudo_labels(features, text, projection=projection)
    assert found.empty == [3] and found.counts[1] > 0


def test_accuracy_where_labels_are_known() -> None:
    text = np.eye(3, dtype=np.float32)
    found = pseudo_labels(np.eye(3)[[0, 1, 1, 2]], text, known=np.array([0, 1, 2, 2]))
    assert found.accuracy == 0.75 and found.empty == []
    assert pseudo_labels(np.eye(3), text).accuracy is None


def test_an_image_without_direction_is_not_finite_nowhere() -> None:
    found = pseudo_labels(np.zeros((1, 3), np.float32), np.eye(3))
    assert found.labels.tolist() == [0] and found.confidence[0] == pytest.approx(1 / 3)


def test_bad_input_is_one_sentence() -> None:
    features, text, projection = data()
    with pytest.raises(DataError, match=r"^features of 12 dimensions do not meet texts of shape \(5, 8\)"):
        pseudo_labels(features, text)
    with pytest.raises(DataError, match=r"^features of 12 dimensions through a projection 8 x 12 do not meet"):
        pseudo_labels(features, text, projection=projection.T)
    with pytest.raises(DataError, match=r"^the known labels are of shape \(3,\), but there are 9000 images"):
        pseudo_labels(features, text, projection=projection, known=np.zeros(3, np.int64))
    features[5000, 1] = np.nan
    with pytest.raises(DataError, match=r"^the features are not finite \(row 5000\)"):
        pseudo_labels(features, text, projection=projection)
    text[2] = np.nan
    with pytest.raises(DataError, match=r"^the text of class 2 is not finite"):
        pseudo_labels(features, text, projection=projection)


def test_names_of_classes_are_read_as_words() -> None:
    assert class_texts(["aquarium_fish", "The Eiffel Tower", "t-shirt"]) == [
        "aquarium fish",
        "The Eiffel Tower",
        "t-shirt",
    ]
    assert class_texts(["aquarium_fish"], as_given=True) == ["aquarium_fish"]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["crane", "dog", "crane"], r"^classes 0 and 2 are both called 'crane'"),
        (["cardigan", "Cardigan"], r"^classes 0 and 1 are both called 'Cardigan'"),
        (["ice_cream", "ice cream"], r"^classes 0 and 1 are both called 'ice cream'"),
        (["dog", None], r"^class 1 has no name"),
        ([" ", "dog"], r"^class 0 has no name"),
        ([], r"^class 0 has no name"),
    ],
)
def test_missing_and_double_names_are_refused(names: list[str | None], told: str) -> None:
    with pytest.raises(DataError, match=told):
        class_texts(names)


def test_double_names_are_taken_as_given_on_request() -> None:
    assert class_texts(["crane", "crane"], as_given=True) == ["crane", "crane"]
    with pytest.raises(DataError, match="class 0 has no name"):
        class_texts([""], as_given=True)
