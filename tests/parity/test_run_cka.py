"""CKA by mini-batches against the published formulas taken literally, and against the unbiased CKA of all images."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from domix.analyses.hsic import cka
from domix.analyses.run_cka.minibatch import minibatch_cka, split_rows
from tests.parity.test_cka import slow_hsic

Array = NDArray[np.floating]
N = 203


@pytest.fixture
def models() -> tuple[dict[str, Array], dict[str, Array]]:
    """Two models of three and two sites that have something in common, in half precision as stores hold it."""
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(N, 5))

    def site(channels: int, noise: float) -> Array:
        mixed = shared @ rng.normal(size=(5, channels)) + noise * rng.normal(size=(N, channels))
        return np.maximum(mixed, 0).astype(np.float16)

    return {"a1": site(7, 0.5), "a2": site(1, 0.1), "a3": site(30, 2.0)}, {"b1": site(9, 0.5), "b2": site(4, 3.0)}


def slow_minibatch(x: Array, y: Array, batches: list[Array]) -> float:
    """Nguyen, Raghu and Kornblith (2021), equations 4 and 5, with unbiased HSIC of linear kernels."""

    def mean(first: Array, second: Array) -> float:
        grams = [(first[rows] @ first[rows].T, second[rows] @ second[rows].T) for rows in batches]
        return sum(slow_hsic(k, ell) for k, ell in grams) / len(batches)

    x, y = x.astype(np.float64), y.astype(np.float64)
    return mean(x, y) / np.sqrt(mean(x, x) * mean(y, y))


@pytest.mark.parametrize("size", [5, 64, 101])
def test_every_two_sites_equal_the_published_formula(models: tuple[dict[str, Array], ...], size: int) -> None:
    a, b = models
    batches = split_rows(np.arange(N), size=size, seed=3)
    found = minibatch_cka(a, b, size=size, seed=3)
    assert found.shape == (3, 2)
    for line, x in zip(found, a.values(), strict=True):
        for value, y in zip(line, b.values(), strict=True):
            assert value == pytest.approx(slow_minibatch(x, y, batches), rel=1e-9)


def test_one_batch_is_the_unbiased_cka_of_all_images(models: tuple[dict[str, Array], ...]) -> None:
    a, b = models
    found = minibatch_cka(a, b, size=N)
    expected = [[cka(x.astype(np.float64), y.astype(np.float64)) for y in b.values()] for x in a.values()]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_small_batches_estimate_the_same(models: tuple[dict[str, Array], ...]) -> None:
    """A biased HSIC would give values near one for batches of 10 and 30 channels."""
    a, b = models
    drawn = np.mean([minibatch_cka(a, b, size=10, seed=seed) for seed in range(40)], axis=0)
    np.testing.assert_allclose(drawn, minibatch_cka(a, b, size=N), atol=0.05)
