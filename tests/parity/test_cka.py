"""CKA against the published formula taken literally, against the U-statistic that defines it, and known values."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from domix.analyses.cka.alignment import Layer
from domix.analyses.hsic import Kernel, Median, cka

Array = NDArray[np.float64]
KERNELS: tuple[Kernel, ...] = ("linear", "rbf")


def slow_kernel(samples: Array, kernel: Kernel, median: Median = "mean") -> Array:
    """The kernel matrix, entry by entry."""
    n = len(samples)
    if kernel == "linear":
        return np.array([[float(samples[i] @ samples[j]) for j in range(n)] for i in range(n)])
    squared = np.array([[float(((samples[i] - samples[j]) ** 2).sum()) for j in range(n)] for i in range(n)])
    nonzero = [squared[i, j] for i in range(n) for j in range(n) if squared[i, j] > 0]
    variance = np.median(nonzero) if median == "mean" else float(torch.tensor(nonzero, dtype=torch.float64).median())
    return np.exp(-squared / (2 * variance))


def slow_hsic(k: Array, ell: Array) -> float:
    """Song et al. (2012), equation 5, term by term."""
    n, ones = len(k), np.ones(len(k))
    k, ell = k - np.diag(np.diag(k)), ell - np.diag(np.diag(ell))
    first = np.trace(k @ ell)
    second = (ones @ k @ ones) * (ones @ ell @ ones) / ((n - 1) * (n - 2))
    third = 2 * (ones @ k @ ell @ ones) / (n - 2)
    return float((first + second - third) / (n * (n - 3)))


def slow_cka(a: Array, b: Array, kernel: Kernel, median: Median = "mean") -> float:
    k, ell = slow_kernel(a, kernel, median), slow_kernel(b, kernel, median)
    return slow_hsic(k, ell) / np.sqrt(slow_hsic(k, k) * slow_hsic(ell, ell))


def u_statistic(k: Array, ell: Array) -> float:
    """HSIC as the mean over all ordered quadruples of distinct samples of k_ij (l_ij + l_qr - 2 l_iq)."""
    quadruples = list(permutations(range(len(k)), 4))
    return sum(k[i, j] * (ell[i, j] + ell[q, r] - 2 * ell[i, q]) for i, j, q, r in quadruples) / len(quadruples)


@pytest.fixture
def pair() -> tuple[Array, Array]:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(40, 9)) + 5  # far from zero, as activations after a ReLU are
    return a, np.maximum(a[:, :6] @ rng.normal(size=(6, 13)) + rng.normal(size=(40, 13)), 0)


@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_published_formula(pair: tuple[Array, Array], kernel: Kernel) -> None:
    assert cka(*pair, kernel) == pytest.approx(slow_cka(*pair, kernel), rel=1e-9)


@pytest.mark.parametrize("n", [4, 5, 6, 24])
def test_the_lower_median_is_torch_s_of_the_whole_matrix(pair: tuple[Array, Array], n: int) -> None:
    """The reference study's width: torch.median takes the lower of the two in the middle, for each matrix alone."""
    a, b = (x[:n] for x in pair)
    assert cka(a, b, "rbf", "lower") == pytest.approx(slow_cka(a, b, "rbf", "lower"), rel=1e-9)
    even = n * (n - 1) // 2 % 2 == 0
    assert (abs(cka(a, b, "rbf", "lower") - cka(a, b, "rbf")) > 1e-6) == even


@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_formula_where_samples_repeat(pair: tuple[Array, Array], kernel: Kernel) -> None:
    a, b = (np.concatenate([x, x[:15], x[:15]]) for x in pair)  # many distances are zero: the median leaves them out
    assert cka(a, b, kernel) == pytest.approx(slow_cka(a, b, kernel), rel=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_equals_the_u_statistic_over_all_quadruples(pair: tuple[Array, Array], kernel: Kernel) -> None:
    k, ell = (slow_kernel(x[:7], kernel) for x in pair)
    expected = u_statistic(k, ell) / np.sqrt(u_statistic(k, k) * u_statistic(ell, ell))
    assert cka(pair[0][:7], pair[1][:7], kernel) == pytest.approx(expected, rel=1e-9)


def test_known_value() -> None:
    """Computed once with another implementation; the biased estimator gives 0.1365 here."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((300, 64)), rng.standard_normal((300, 40))
    assert cka(a, b) == pytest.approx(-0.008241, abs=5e-7)


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_pairs_of_a_layer_with_missing_cells_equal_pairs_taken_one_by_one(kernel: Kernel) -> None:
    rng = np.random.default_rng(5)
    means = rng.normal(size=(4, 30, 6)).astype(np.float32)
    means[0, [3, 8]] = means[1, 4] = means[2, 3] = np.nan
    chosen = rng.random(30) < 0.7
    found = {(a, b): (n, value) for a, b, n, value in Layer(means).compare(kernel, chosen)}
    assert list(found) == list(combinations(range(4), 2))
    for (a, b), (n, value) in found.items():
        common = chosen & np.isfinite(means[a]).all(axis=1) & np.isfinite(means[b]).all(axis=1)
        x, y = (means[d][common].astype(np.float64) for d in (a, b))
        assert n == common.sum()
        assert value == pytest.approx(slow_cka(x, y, kernel), rel=1e-8)
