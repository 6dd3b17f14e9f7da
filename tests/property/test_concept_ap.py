"""What holds of average precision whatever the activations."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from domix.signature.average_precision import concept_ap
from domix.signature.concepts import THRESHOLDS, concept_curve, concepts_per_unit, polysemanticity, unique_concepts

SHAPES = st.tuples(st.integers(2, 30), st.integers(1, 4), st.integers(1, 5))


@st.composite
def activations_and_concepts(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    images, units, concepts = draw(SHAPES)
    values = draw(arrays.arrays(np.int64, (images, units), elements=st.integers(-3, 3)))
    shown = draw(arrays.arrays(np.bool_, (images, concepts)))
    shown[draw(st.integers(0, images - 1))] = True
    return values.astype(np.float64), shown


@settings(max_examples=60, deadline=None)
@given(activations_and_concepts(), st.randoms(use_true_random=False))
def test_only_the_order_of_activations_counts_and_not_that_of_images(
    both: tuple[np.ndarray, np.ndarray], random: object
) -> None:
    values, shown = both
    found = concept_ap(values, shown)
    order = np.random.default_rng(random.randrange(1 << 30)).permutation(len(values))  # ty: ignore[missing-attribute]
    np.testing.assert_allclose(concept_ap(values[order], shown[order]), found, rtol=1e-12)
    np.testing.assert_allclose(concept_ap(np.exp(values), shown), found, rtol=1e-12)
    assert (found > 0).all() and (found <= 1).all()
    perfect = shown.astype(np.float64)
    assert (np.diag(concept_ap(perfect, shown)) == 1).all()


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float64, SHAPES.map(lambda shape: shape[:2]), elements=st.sampled_from([0.3, 0.5, 0.9, 1.0])))
def test_the_curve_is_what_is_counted_at_each_threshold(ap: np.ndarray) -> None:
    curve = concept_curve(ap)
    for place in (0, 1, 399, 400, 401, 499, 500):
        tau = float(THRESHOLDS[place])
        assert curve.unique[place] == len(unique_concepts(ap, tau)) == (ap >= tau).any(axis=0).sum()
        assert curve.units[place] == (concepts_per_unit(ap, tau) > 0).sum()
        np.testing.assert_allclose(curve.polysemanticity[place], polysemanticity(ap, tau), equal_nan=True)
    assert (np.diff(curve.unique) <= 0).all()
