"""How alike two domains are represented, layer by layer: unbiased centred kernel alignment (CKA) of their class means.

Samples are classes: row i of A is the mean activation of class i in one domain, row i of B that of the same class in
the other. What is computed of them: domix.analyses.hsic.

Shapes: C channels, G domains, K classes.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.hsic import LEAST, Kernel, Median, choose, product_matrix, unit_gram
from domix.embed.embeddings import Embeddings
from domix.runtime.errors import DataError

log = logging.getLogger(__name__)

COLUMNS = ["layer", "depth", "kernel", "classes", "domain_a", "domain_b", "n", "value"]


class Layer:
    """One layer's class means, ready to be compared between domains under any kernel and for any classes."""

    def __init__(self, means_GKC: NDArray[np.floating]) -> None:
        """Take class means [G, K, C] in which a cell without images is NaN."""
        means = np.asarray(means_GKC, dtype=np.float64)
        self.present_GK: NDArray[np.bool_] = np.asarray(np.isfinite(means).all(axis=2))
        self._place_GK = self.present_GK.cumsum(axis=1) - 1  # where a class stands among those that a domain has
        self._products = [product_matrix(rows[has]) for rows, has in zip(means, self.present_GK, strict=True)]

    def compare(
        self, kernel: Kernel, chosen: NDArray[np.bool_], median: Median = "mean"
    ) -> list[tuple[int, int, int, float | None]]:
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
            chosen_d = {d: choose(*self._products[d], self._place_GK[d][common]) for d in domains}
            grams = {d: unit_gram(products, kernel, median) for d, products in chosen_d.items()}
            for a, b in pairs:
                gram_a, gram_b = grams.get(a), grams.get(b)
                found.append((a, b, n, None if gram_a is None or gram_b is None else float(gram_a @ gram_b)))
        return sorted(found, key=lambda row: row[:2])


def compare_domains(
    embeddings: Embeddings,
    *,
    kernels: list[Kernel],
    subsets: Mapping[str, NDArray[np.bool_]],
    median: Median = "mean",
) -> pd.DataFrame:
    """Compare every unordered pair of domains of one checkpoint in every layer, kernel and subset of the classes.

    `subsets` names the subsets, bool [K] in label order. Pairs with fewer than 4 common classes, and layers whose class
    means do not differ, have no CKA: they are logged and left out.

    Returns:
        COLUMNS; `depth` counts the layers from 0, `n` the classes compared.

    Raises:
        DataError: the class mean of a cell that has images is not finite.
    """
    names, rows, undefined = embeddings.domains, [], Counter()
    for depth, layer in enumerate(embeddings.layers):
        values = embeddings.layer(layer)
        _require_finite(values, layer, embeddings)
        means = Layer(values)
        for kernel in kernels:
            for subset, chosen in subsets.items():
                for a, b, n, value in means.compare(kernel, chosen, median):
                    if value is None:
                        reason = f"only {n} common classes" if n < LEAST else "class means do not differ"
                        undefined[(names[a], names[b], subset, reason)] += 1
                    else:
                        rows.append((layer, depth, kernel, subset, names[a], names[b], n, value))
    for (a, b, subset, reason), count in undefined.items():
        log.warning("no CKA of %s and %s over %s classes, %d times (layers, kernels): %s", a, b, subset, count, reason)
    return pd.DataFrame(rows, columns=COLUMNS).astype({"depth": "int64", "n": "int64", "value": "float64"})


def _require_finite(means_GKC: NDArray[np.floating], layer: str, embeddings: Embeddings) -> None:
    """Raise DataError where a cell that has images has a class mean that is not finite."""
    number = {name: place for place, name in enumerate(embeddings.domains)}
    has_images = np.zeros(means_GKC.shape[:2], dtype=np.bool_)
    has_images[embeddings.rows["domain"].map(number), embeddings.rows["label"]] = True
    broken = has_images & ~np.isfinite(means_GKC).all(axis=2)
    if broken.any():
        domain, label = np.argwhere(broken)[0]
        raise DataError(
            f"the class means of layer {layer} are not finite for {embeddings.classes[label]} in "
            f"{embeddings.domains[domain]}",
            remake=embeddings.folder / "layers.safetensors",
        )
