"""How alike two domains are represented, layer by layer: unbiased centred kernel alignment (CKA) of their class means.

Samples are classes: row i of A is the mean activation of class i in one domain, row i of B that of the same class in
the other. CKA(A, B) = HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)) with the unbiased HSIC_1 of Song et al. (2012),

    HSIC_1(K, L) = [ tr(K~ L~) + (1'K~1)(1'L~1) / ((n-1)(n-2)) - 2 (1'K~ L~1) / (n-2) ] / (n (n-3)),

K~ and L~ the kernel matrices with their diagonals set to zero. The kernels are linear, A A', and RBF,
exp(-d^2 / (2 s^2)) with s^2 the median of the non-zero squared distances among the samples.

HSIC_1 is an inner product: n (n-3) HSIC_1(K, L) = <U(K), U(L)>, with U the U-centring of Szekely and Rizzo (2014), so
CKA is the cosine of two U-centred matrices and lies in -1..1. Each matrix is made and centred once, and held by its
entries above the diagonal, which say it all. tests/parity/test_cka.py takes the formula above literally and compares.

Shapes: n samples (classes), C channels, G domains, K all classes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.embed.embeddings import Embeddings

log = logging.getLogger(__name__)

Kernel = Literal["linear", "rbf"]
Vector = NDArray[np.float64]

COLUMNS = ["layer", "depth", "kernel", "classes", "domain_a", "domain_b", "n", "value"]
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


def kernel_values(products: Products, kernel: Kernel) -> Vector:
    """Return the kernel matrix above its diagonal: [n (n-1) / 2]."""
    if kernel == "linear":
        return products.upper
    row, column = _triangle(len(products.lengths))
    distances = products.lengths[row] + products.lengths[column] - 2 * products.upper
    nonzero = distances[distances > ZERO * products.lengths.max()]
    variance = np.median(nonzero) if len(nonzero) else 1.0
    return np.exp(distances.clip(min=0.0) / (-2 * variance))


def u_centre(values: Vector, n: int) -> Vector:
    """U-centre a symmetric n x n matrix, n >= 3, given and returned above its diagonal only: [n (n-1) / 2]."""
    row, column = _triangle(n)
    sums = np.bincount(row, values, n) + np.bincount(column, values, n)
    share = sums / (n - 2)
    return values - share[row] - share[column] + sums.sum() / ((n - 1) * (n - 2))


def unit_gram(products: Products, kernel: Kernel) -> Vector | None:
    """Return the U-centred kernel matrix above its diagonal, scaled to length 1; None if it vanishes.

    It vanishes where samples do not differ: then HSIC_1(K, K) is zero and CKA undefined.
    """
    if products.flat:
        return None
    values = kernel_values(products, kernel)
    centred = u_centre(values, len(products.lengths))
    length = np.linalg.norm(centred)
    return centred / length if length > ZERO * np.linalg.norm(values) else None


def cka(a: Vector, b: Vector, kernel: Kernel = "linear") -> float:
    """Return the unbiased CKA of two sets of the same n samples, [n, C] and [n, C']; NaN where it is undefined.

    Raises:
        ValueError: n differs, or is below 4.
    """
    if len(a) != len(b) or len(a) < LEAST:
        raise ValueError(f"CKA needs two sets of the same samples, at least {LEAST}, not {len(a)} and {len(b)}")
    every = np.arange(len(a))
    gram_a, gram_b = (
        unit_gram(choose(*product_matrix(np.asarray(samples, dtype=np.float64)), every), kernel) for samples in (a, b)
    )
    return float("nan") if gram_a is None or gram_b is None else float(gram_a @ gram_b)


class Layer:
    """One layer's class means, ready to be compared between domains under any kernel and for any classes."""

    def __init__(self, means_GKC: NDArray[np.floating]) -> None:
        """Take class means [G, K, C] in which a cell without images is NaN."""
        means = np.asarray(means_GKC, dtype=np.float64)
        self.present_GK: NDArray[np.bool_] = np.asarray(np.isfinite(means).all(axis=2))
        self._place_GK = self.present_GK.cumsum(axis=1) - 1  # where a class stands among those that a domain has
        self._products = [product_matrix(rows[has]) for rows, has in zip(means, self.present_GK, strict=True)]

    def compare(self, kernel: Kernel, chosen: NDArray[np.bool_]) -> list[tuple[int, int, int, float | None]]:
        """Compare every unordered pair of domains over the classes that both have and `chosen` [K] names.

        Returns:
            (a, b, n, value), sorted: the domains' numbers, a < b, the classes compared, and CKA, None where undefined.
        """
        groups: dict[bytes, list[tuple[int, int]]] = {}  # pairs that share the same classes share their matrices
        for a, b in combinations(range(len(self.present_GK)), 2):
            groups.setdefault((self.present_GK[a] & self.present_GK[b] & chosen).tobytes(), []).append((a, b))
        found = []
        for key, pairs in groups.items():
            common = np.frombuffer(key, dtype=np.bool_)
            n = int(common.sum())
            domains = sorted({domain for pair in pairs for domain in pair}) if n >= LEAST else []
            grams = {d: unit_gram(choose(*self._products[d], self._place_GK[d][common]), kernel) for d in domains}
            for a, b in pairs:
                gram_a, gram_b = grams.get(a), grams.get(b)
                found.append((a, b, n, None if gram_a is None or gram_b is None else float(gram_a @ gram_b)))
        return sorted(found, key=lambda row: row[:2])


def compare_domains(
    embeddings: Embeddings, *, kernels: list[Kernel], subsets: Mapping[str, NDArray[np.bool_]]
) -> pd.DataFrame:
    """Compare every unordered pair of domains of one checkpoint in every layer, kernel and subset of the classes.

    `subsets` names the subsets, bool [K] in label order. Pairs with fewer than 4 common classes, and layers whose class
    means do not differ, have no CKA: they are logged and left out.

    Returns:
        COLUMNS; `depth` counts the layers from 0, `n` the classes compared.
    """
    names, rows, undefined = embeddings.domains, [], Counter()
    for depth, layer in enumerate(embeddings.layers):
        means = Layer(embeddings.layer(layer))
        for kernel in kernels:
            for subset, chosen in subsets.items():
                for a, b, n, value in means.compare(kernel, chosen):
                    if value is None:
                        reason = f"only {n} common classes" if n < LEAST else "class means do not differ"
                        undefined[(names[a], names[b], subset, reason)] += 1
                    else:
                        rows.append((layer, depth, kernel, subset, names[a], names[b], n, value))
    for (a, b, subset, reason), count in undefined.items():
        log.warning("no CKA of %s and %s over %s classes, %d times (layers, kernels): %s", a, b, subset, count, reason)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"depth": "int64", "n": "int64", "value": "float64"})
