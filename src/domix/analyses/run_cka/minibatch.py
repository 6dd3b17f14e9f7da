"""CKA of two models' sites on the same images, gathered by mini-batches: memory holds a batch, not all images.

As Nguyen, Raghu and Kornblith (2021): the unbiased HSIC_1 of every batch is averaged over the batches, and

    CKA = mean HSIC_1(K, L) / sqrt(mean HSIC_1(K, K) mean HSIC_1(L, L)),

with linear kernels. HSIC_1 of a batch estimates without bias what it would be over all images, so that the batches'
size moves the value by its noise alone; in one batch this is the CKA of domix.analyses.hsic.

Shapes: N images, n images of a batch, C channels of a site, A and B sites of the two models.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from domix.analyses.hsic import LEAST, Vector, centred_gram, choose, product_matrix
from domix.runtime.errors import DataError
from domix.runtime.seeds import numpy_generator

Activations = Mapping[str, NDArray[np.floating]]  # by site, [n, C]


class MinibatchCka:
    """What is gathered of two models' sites, batch by batch."""

    def __init__(self) -> None:
        """Begin without a batch."""
        self.batches = 0
        self._sums: tuple[NDArray[np.float64], Vector, Vector] = (np.zeros((0, 0)), np.zeros(0), np.zeros(0))

    def update(self, a: Activations, b: Activations) -> None:
        """Add a batch: both models' activations of the same images, the same sites in every batch.

        Raises:
            DataError: activations are not finite.
            ValueError: the batches are not of the same images, or of fewer than 4.
        """
        sizes = {len(values) for values in (*a.values(), *b.values())}
        if len(sizes) != 1 or (n := min(sizes)) < LEAST:
            raise ValueError(f"a batch needs the same images of both models, at least {LEAST}, not {sorted(sizes)}")
        grams_a, grams_b = _grams(a), _grams(b)
        scale = 2 / (n * (n - 3))  # entries above the diagonal stand for those below it, too
        new = (grams_a @ grams_b.T, (grams_a**2).sum(axis=1), (grams_b**2).sum(axis=1))
        old = self._sums if self.batches else tuple(np.zeros_like(part) for part in new)
        cross, own_a, own_b = (before + scale * part for before, part in zip(old, new, strict=True))
        self._sums = (cross, own_a, own_b)
        self.batches += 1

    def result(self) -> NDArray[np.float64]:
        """Return CKA [A, B]; NaN where a site tells no two images apart, in any batch."""
        cross, own_a, own_b = self._sums
        lengths = np.sqrt(np.outer(own_a, own_b))
        return np.divide(cross, lengths, out=np.full_like(cross, np.nan), where=lengths > 0)


def minibatch_cka(a: Activations, b: Activations, *, size: int, seed: int = 0) -> NDArray[np.float64]:
    """Return the CKA [A, B] of two models' activations [N, C] of the same images, by batches of about `size`.

    Raises:
        DataError: activations are not finite.
        ValueError: they are not of the same images, or of fewer than 4.
    """
    gathered = MinibatchCka()
    for rows in split_rows(np.arange(len(next(iter(a.values())))), size=size, seed=seed):
        gathered.update(*({site: values[rows] for site, values in model.items()} for model in (a, b)))
    return gathered.result()


def split_rows(rows: NDArray[np.int64], *, size: int, seed: int) -> list[NDArray[np.int64]]:
    """Shuffle rows [N] and split them into batches whose sizes differ by one at most: at least 4, at most `size`."""
    shuffled = numpy_generator(seed, "minibatches").permutation(rows)
    most = max(1, len(rows) // LEAST)
    return np.array_split(shuffled, min(-(-len(rows) // max(size, LEAST)), most))


def _grams(model: Activations) -> NDArray[np.float64]:
    """Return every site's U-centred linear kernel matrix above its diagonal: [sites, n (n - 1) / 2]."""
    grams = []
    for site, values in model.items():
        samples = np.asarray(values, dtype=np.float64)
        if not np.isfinite(samples).all():
            raise DataError(f"the activations of site {site} are not finite, so that they cannot be compared")
        n = len(samples)
        gram = centred_gram(choose(*product_matrix(samples), np.arange(n)), "linear")
        grams.append(np.zeros(n * (n - 1) // 2) if gram is None else gram)
    return np.stack(grams)
