"""Means and covariances in double precision, gathered block by block.

Shapes: M images, C classes, D dimensions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy  # loads its parts when they are first used
from numpy.typing import NDArray

from domix.ood.blocks import Array, Floats, Ints, Rows, add_by_class, blocks, check_labels, shape_of
from domix.runtime.errors import DataError, ParameterError

BLOCK = 2048  # images of the bank at a time
DEAD = 1e-6  # a standard deviation below this share of the largest is that of a dead dimension


@dataclass(frozen=True)
class Standardisation:
    """The mean and the unbiased standard deviation of each dimension [D]."""

    mean: Floats
    std: Floats

    def apply(self, features: Array, *, epsilon: float = 1e-6) -> Floats:
        """Return (x - mean) / std [N, D]; a dimension whose std is below epsilon is divided by epsilon."""
        return (np.asarray(features, np.float64) - self.mean) / np.maximum(self.std, epsilon)


def standardisation(batches: Rows | Iterable[Array]) -> Standardisation:
    """Gather mean and unbiased standard deviation of each dimension over batches [b, D], in double precision.

    Batches are merged as Chan et al. (1979) do, so that large means cost no digits; they are read once.

    Raises:
        DataError: there are fewer than two images, widths differ, or a number is not finite.
    """
    count, mean, scatter = 0, np.zeros(0), np.zeros(0)
    for batch in [batches] if isinstance(batches, np.ndarray) else batches:
        for _, block in blocks(batch, "the features") if len(batch) else ():
            if count and block.shape[1] != len(mean):
                raise DataError(
                    f"a batch has {block.shape[1]} dimensions, those before it {len(mean)}: give one encoder's"
                )
            here = block.mean(axis=0)
            around = np.einsum("nd,nd->d", block - here, block - here)
            if count == 0:
                count, mean, scatter = len(block), here, around
                continue
            total = count + len(block)
            scatter = scatter + around + (here - mean) ** 2 * (count * len(block) / total)
            mean = mean + (here - mean) * (len(block) / total)
            count = total
    if count < 2:
        raise DataError(f"there are {count} images: a standard deviation needs two")
    return Standardisation(mean, np.sqrt(scatter / (count - 1)))


@dataclass(frozen=True)
class Gaussians:
    """Class means with one covariance for all.

    Attributes:
        classes: which have a mean, rising int64 [K].
        means: [K, D].
        covariance: [D, D] within classes.
        mean: [D] of all images.
        background: as `fit_background`, if it follows from the others: where all classes that count have one weight an
            image, as those of `size` and those that are as large as one another have.
    """

    classes: Ints
    means: Floats
    covariance: Floats
    mean: Floats
    background: Floats | None


def fit_gaussians(bank: Rows, labels: NDArray[np.int64], *, weights: str = "equal") -> Gaussians:
    """Fit a Gaussian a class with a covariance in common.

    Args:
        bank: features of ID training images.
        labels: their classes; some may have no images.
        weights: `equal`, the mean over classes of their unbiased covariances (Adaloglou et al. 2024), in which classes
            of fewer than two images have no part, nor a mean; or `size`, the pooled scatter divided by the number of
            images (Lee et al. 2018, Ren et al. 2021).

    Raises:
        ParameterError: there are no such weights.
        DataError: no class has two images, arrays do not fit, or a number is not finite.
    """
    if weights not in ("equal", "size"):
        raise ParameterError(f"classes are weighed 'equal' or by 'size', not {weights!r}", argument="weights")
    count, width = shape_of(bank, "the bank's features")
    known = check_labels(labels, count, "the labels")
    sizes = np.bincount(known)
    if sizes.max() < 2:
        raise DataError("no class of the bank has two images: a covariance needs them")
    sums = np.zeros((len(sizes), width))
    for start, block in blocks(bank, "the bank's features", size=BLOCK):
        add_by_class(sums, block, known[start : start + len(block)])
    means = sums / np.maximum(sizes, 1)[:, None]
    mean = sums.sum(axis=0) / count
    share = np.where(sizes > 1, 1.0 / np.maximum(sizes - 1, 1), 0.0) / (sizes > 1).sum()
    if weights == "size":
        share = np.full(len(sizes), 1.0 / count)
    covariance = np.zeros((width, width))
    for start, block in blocks(bank, "the bank's features", size=BLOCK):
        some = known[start : start + len(block)]
        within = block - means[some]
        within *= np.sqrt(share[some])[:, None]
        covariance += within.T @ within
    kept = np.flatnonzero(sizes > (1 if weights == "equal" else 0))
    background, alike = None, np.unique(share[sizes > 1])
    if len(alike) == 1:
        between = np.sqrt(sizes)[:, None] * (means - mean)
        background = (covariance / alike[0] + between.T @ between) / (count - 1 if weights == "equal" else count)
    return Gaussians(kept, means[kept], covariance, mean, background)


def fit_background(bank: Rows, mean: Floats, *, weights: str = "equal") -> Floats:
    """Return the covariance [D, D] of all images of a bank around their mean: unbiased, or divided by their number.

    It is the background to `fit_gaussians` of the same weights (`equal`: unbiased).

    Raises:
        DataError: a number is not finite.
    """
    count, width = shape_of(bank, "the bank's features")
    scatter = np.zeros((width, width))
    for _, block in blocks(bank, "the bank's features", size=BLOCK):
        around = block - mean
        scatter += around.T @ around
    return scatter / (count - 1 if weights == "equal" else count)


def shrunk(covariance: Floats, *, shrinkage: float = 0.0, ridge: float = 0.0) -> Floats:
    """Return (1 - shrinkage) S + (shrinkage tr(S) / D + ridge) I [D, D].

    Raises:
        ParameterError: shrinkage is outside 0..1, or ridge below 0.
    """
    if not 0 <= shrinkage <= 1:
        raise ParameterError(f"shrinkage is {shrinkage}: give a share in 0..1", argument="shrinkage")
    if not ridge >= 0:
        raise ParameterError(f"ridge is {ridge}: give a number from 0", argument="ridge")
    width = len(covariance)
    return (1 - shrinkage) * covariance + (shrinkage * np.trace(covariance) / width + ridge) * np.eye(width)


def whitening(covariance: Floats, *, shrinkage: float = 0.0, ridge: float = 0.0) -> Floats:
    """Return W [D, D] with W W' the inverse of the shrunk covariance, so that |x W| is the Mahalanobis length of x.

    Raises:
        ParameterError: shrinkage is outside 0..1, or ridge below 0.
        DataError: the matrix has no inverse.
    """
    matrix = shrunk(covariance, shrinkage=shrinkage, ridge=ridge)
    least = len(matrix) * np.finfo(np.float64).eps  # of the lowest eigenvalue, beside the highest
    with contextlib.suppress(np.linalg.LinAlgError):  # many times as fast as eigenvectors, and as good beyond doubt
        white = scipy.linalg.solve_triangular(np.linalg.cholesky(matrix), np.eye(len(matrix)), lower=True).T
        # The trace of the inverse is no less than the highest of its eigenvalues, nor the norm than that of the matrix.
        if least * np.linalg.norm(matrix) * np.linalg.norm(white) ** 2 < 1:
            return np.ascontiguousarray(white)
    values, vectors = np.linalg.eigh(matrix)
    if values[0] <= values[-1] * least:
        flat = np.flatnonzero(np.diag(covariance) <= 0)
        why = f"dimension {flat[0]} is constant" if len(flat) else "more dimensions than images span"
        raise DataError(f"the covariance of the features has no inverse ({why}): set shrinkage or ridge above 0")
    return vectors / np.sqrt(values)
