"""What CKA must not depend on, and the range in which it must lie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from domix.analyses.hsic import Kernel, cka

Array = NDArray[np.float64]
kernels = st.sampled_from(["linear", "rbf"])


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Array, Array]:
    """Two related sets of 4 to 40 samples with 1 to 12 channels each."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, channels = draw(st.integers(4, 40)), draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    a = rng.normal(size=(n, channels[0]))
    mixed = a @ rng.normal(size=channels) + draw(st.floats(0.1, 3)) * rng.normal(size=(n, channels[1]))
    return a, mixed


def rotation(size: int, seed: int) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


@given(pairs(), kernels)
@settings(deadline=None)
def test_is_symmetric_and_within_minus_one_and_one(pair: tuple[Array, Array], kernel: Kernel) -> None:
    value = cka(*pair, kernel)
    assert -1 - 1e-9 <= value <= 1 + 1e-9
    assert cka(*pair[::-1], kernel) == pytest.approx(value, rel=1e-9, abs=1e-12)


@given(pairs(), kernels)
@settings(deadline=None)
def test_of_a_set_with_itself_is_one(pair: tuple[Array, Array], kernel: Kernel) -> None:
    assert cka(pair[0], pair[0], kernel) == pytest.approx(1, rel=1e-9)


@given(pairs(), kernels, st.floats(0.01, 100), st.floats(-10, 10), st.integers(0, 1000))
@settings(deadline=None)
def test_ignores_rotation_scale_and_origin(
    pair: tuple[Array, Array], kernel: Kernel, scale: float, shift: float, seed: int
) -> None:
    a, b = pair
    moved = scale * (a @ rotation(a.shape[1], seed)) + shift
    assert cka(moved, b, kernel) == pytest.approx(cka(a, b, kernel), rel=1e-6, abs=1e-7)


@given(pairs(), kernels, st.integers(0, 1000))
@settings(deadline=None)
def test_ignores_the_order_of_the_samples_but_not_their_pairing(
    pair: tuple[Array, Array], kernel: Kernel, seed: int
) -> None:
    a, b = pair
    order = np.random.default_rng(seed).permutation(len(a))
    assert cka(a[order], b[order], kernel) == pytest.approx(cka(a, b, kernel), rel=1e-8, abs=1e-10)


def test_of_unrelated_samples_is_zero_on_average() -> None:
    """What the biased estimator misses: with as many channels as samples it would give about 0.5."""
    rng = np.random.default_rng(0)
    values = [cka(rng.normal(size=(20, 20)), rng.normal(size=(20, 20))) for _ in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)
