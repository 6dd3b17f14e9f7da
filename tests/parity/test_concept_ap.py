"""Average precision of units and concepts against scikit-learn, ties and categories included."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from domix.signature import average_precision
from domix.signature.average_precision import concept_ap
from domix.signature.concepts import ConceptSet


def pair_by_pair(activations: np.ndarray, concepts: np.ndarray, counted: np.ndarray | None = None) -> np.ndarray:
    """Return scikit-learn's AP [U, C]; `counted` [N, C] are the images of each concept's ranking."""
    known = np.ones_like(concepts) if counted is None else counted
    return np.array(
        [
            [average_precision_score(concepts[k, c], row[k]) for c, k in enumerate(known.T)]
            for row in activations.T.astype(np.float64)
        ]
    )


def test_the_golden_average_precision() -> None:
    rng = np.random.default_rng(0)
    shown = rng.random(200) < 0.2
    values = rng.standard_normal(200) + shown
    assert shown.mean() == 0.185
    assert concept_ap(values[:, None], shown[:, None])[0, 0] == pytest.approx(0.426097, abs=5e-7)


@pytest.mark.parametrize(
    "kind", ["continuous", "relu", "rounded", "constant", "float16", "int8", "uint8", "signed zeros"]
)
@pytest.mark.parametrize("block", [1, 300, 1 << 21])
def test_average_precision_is_scikit_learns(kind: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(average_precision, "BLOCK", block)
    rng = np.random.default_rng(3)
    values = rng.standard_normal((257, 6)).astype(np.float32)
    values = {
        "continuous": values,
        "relu": np.maximum(values, 0),
        "rounded": values.round(1),
        "constant": np.ones_like(values),
        "float16": values.astype(np.float16),
        "int8": (20 * values).astype(np.int8),
        "uint8": (20 * np.maximum(values, 0)).astype(np.uint8),
        "signed zeros": np.maximum(values, 0) * np.sign(values),
    }[kind]
    concepts = rng.random((257, 9)) < np.linspace(0.01, 0.99, 9)
    concepts[0], concepts[:, 4] = True, True
    np.testing.assert_allclose(concept_ap(values, concepts), pair_by_pair(values, concepts), rtol=1e-12)
    if kind == "constant":
        np.testing.assert_allclose(concept_ap(values, concepts), np.tile(concepts.mean(axis=0), (6, 1)))


def test_images_not_annotated_for_a_category_are_left_out_of_its_rankings() -> None:
    rng = np.random.default_rng(4)
    values = rng.standard_normal((300, 5)).round(1)
    annotated = rng.random((300, 3)) < (0.3, 0.6, 1.0)
    category = np.array([0, 1, 2, 1, 0, 2, 1])
    concepts = (rng.random((300, 7)) < 0.2) & annotated[:, category]
    found = concept_ap(values, concepts, category=category, annotated=annotated)
    np.testing.assert_allclose(found, pair_by_pair(values, concepts, annotated[:, category]), rtol=1e-12)
    assert (abs(found - concept_ap(values, concepts))[:, category != 2] > 0.01).all()
    names = tuple("abcdefg")
    known = ConceptSet(names, category, ("x", "y", "z"), concepts, annotated)
    np.testing.assert_array_equal(known.ap(values, "category"), found)
    np.testing.assert_array_equal(known.ap(values, "all"), concept_ap(values, concepts))


def test_activations_may_come_in_shards() -> None:
    rng = np.random.default_rng(5)
    values, concepts = rng.standard_normal((90, 4)), rng.random((90, 3)) < 0.4
    found = concept_ap(values, concepts)
    np.testing.assert_array_equal(concept_ap([values[:40], values[40:41], values[41:]], concepts), found)
