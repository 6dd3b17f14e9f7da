"""Unbiased HSIC and the CKA that it gives, of two sets of samples: what compares representations.

CKA(A, B) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with the unbiased HSIC_1 of Song et al. (2012),

    HSIC_1(K, L) = [ tr(K~ L~) + (1'K~1)(1'L~1) / ((n-1)(n-2)) - 2 (1'K~ L~1) / (n-2) ] / (n (n-3)),

K~ and L~ the kernel matrices with their diagonals set to zero. The kernels are linear, A A', and RBF,
exp(-d^2 / (2 s^2)) with s^2 the median of the non-zero squared distances among the samples. Where these are even in
number, the median is the mean of the two in the middle, or the lower of them as the reference study has it
(torch.median): with few samples that moves the width much, and with it the value.

HSIC_1 is an inner product: n (n-3) HSIC_1(K, L) = <U(K), U(L)>, with U the U-centring of Szekely and Rizzo (2014), so
CKA is the cosine of two U-centred matrices and lies in -1..1. Each matrix is made and centred once, and held by its
entries above the diagonal, which say it all. tests/parity/test_cka.py takes the formula above literally and compares.

Shapes: n samples, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kernel = Literal["linear", "rbf"]
Median = Literal["mean", "lower"]
Vector = NDArray[np.float64]

LEAST = 4  # samples that HSIC_1 needs
ZERO = 1e-12  # what is below this share of the greatest is a rounding error of zero


@dataclass(frozen=True)
class Products:
    """Inner products of samples: `upper` [n (n-1) / 2] above the diagonal, row by row, `lengths` [n] on it.

    `flat` says that samples do not differ but for rounding errors.
    """

    upper: Vector
    lengths: Vector
    flat: bool


@lru_cache(maxsize=4)
def _triangle(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return row and column of the entries above the diagonal of an n x n matrix."""
    row, column = np.triu_indices(n, 1)
    return row, column


def product_matrix(samples: Vector) -> tuple[Vector, bool]:
    """Return the inner products [n, n] of `samples` [n, C] about their mean, and whether the samples are all equal.

    About the mean, because CKA does not depend on the origin, and where all activations are positive, as after a ReLU,
    sums about zero lose digits.
    """
    centred = samples - samples.mean(axis=0)
    products = centred @ centred.T
    greatest = (samples**2).sum(axis=1).max(initial=0.0)
    return products, bool(products.diagonal().max(initial=0.0) <= ZERO**2 * greatest)


def choose(products: Vector, flat: bool, chosen: NDArray[np.intp]) -> Products:
    """Take the samples `chosen` [m] out of a matrix of inner products [n, n]."""
    row, column = _triangle(len(chosen))
    upper = products.reshape(-1)[chosen[row] * len(products) + chosen[column]]
    return Products(upper, products.diagonal()[chosen], flat)


def kernel_values(products: Products, kernel: Kernel, median: Median = "mean") -> Vector:
    """Return the kernel matrix above its diagonal: [n (n-1) / 2]; `median` says which one sets the RBF's width."""
    if kernel == "linear":
        return products.upper
    row, column = _triangle(len(products.lengths))
    distances = products.lengths[row] + products.lengths[column] - 2 * products.upper
    nonzero = distances[distances > ZERO * products.lengths.max()]
    variance = middle(nonzero, median) if len(nonzero) else 1.0
    return np.exp(distances.clip(min=0.0) / (-2 * variance))


def middle(values: Vector, median: Median) -> float:
    """Return the median of values [m]: of an even number the mean of the two in the middle, or the lower one."""
    if median == "mean":
        return float(np.median(values))
    place = (len(values) - 1) // 2
    return float(np.partition(values, place)[place])


def u_centre(values: Vector, n: int) -> Vector:
    """U-centre a symmetric n x n matrix, n >= 3, given and returned above its diagonal only: [n (n-1) / 2]."""
    row, column = _triangle(n)
    sums = np.bincount(row, values, n) + np.bincount(column, values, n)
    share = sums / (n - 2)
    return values - share[row] - share[column] + sums.sum() / ((n - 1) * (n - 2))


def centred_gram(products: Products, kernel: Kernel, median: Median = "mean") -> Vector | None:
    """Return the U-centred kernel matrix above its diagonal; None if it vanishes.

    It vanishes where samples do not differ: then HSIC_1(K, K) is zero and CKA undefined.
    """
    if products.flat:
        return None
    values = kernel_values(products, kernel, median)
    centred = u_centre(values, len(products.lengths))
    return centred if np.linalg.norm(centred) > ZERO * np.linalg.norm(values) else None


def unit_gram(products: Products, kernel: Kernel, median: Median = "mean") -> Vector | None:
    """Return the same scaled to length 1, so that CKA is an inner product; None if it vanishes."""
    centred = centred_gram(products, kernel, median)
    return None if centred is None else centred / np.linalg.norm(centred)


def cka(a: Vector, b: Vector, kernel: Kernel = "linear", median: Median = "mean") -> float:
    """Return the unbiased CKA of two sets of the same n samples, [n, C] and [n, C']; NaN where it is undefined.

    Raises:
        ValueError: n differs, or is below 4.
    """
    if len(a) != len(b) or len(a) < LEAST:
        raise ValueError(f"CKA needs two sets of the same samples, at least {LEAST}, not {len(a)} and {len(b)}")
    every = np.arange(len(a))
    gram_a, gram_b = (
        unit_gram(choose(*product_matrix(np.asarray(samples, dtype=np.float64)), every), kernel, median)
        for samples in (a, b)
    )
    return float("nan") if gram_a is None or gram_b is None else float(gram_a @ gram_b)
