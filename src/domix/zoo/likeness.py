"""How alike the models of a zoo represent the same images: unbiased CKA by mini-batches, of models and of groups.

Shapes: M models, N images, D components, which differ between models.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from domix.analyses.hsic import LEAST
from domix.analyses.run_cka.minibatch import minibatch_cka
from domix.runtime.errors import DataError

BATCH = 512  # images


def cka_matrix(features: Mapping[str, NDArray[np.floating]], *, batch: int = BATCH, seed: int = 0) -> pd.DataFrame:
    """Return the CKA of every two models [M, M]; NaN where a model does not tell images apart.

    Args:
        features: by model, [N, D], of the same images in the same order.
        batch: images at a time.
        seed: of their order.

    Raises:
        DataError: numbers of images differ, there are fewer than four, or a value is not finite.
    """
    sizes = {name: len(values) for name, values in features.items()}
    if len(set(sizes.values())) != 1 or min(sizes.values()) < LEAST:
        told = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise DataError(f"CKA compares models on the same images, at least {LEAST}, but there are {told or 'none'}")
    values = minibatch_cka(features, features, size=batch, seed=seed)
    return pd.DataFrame(values, index=list(features), columns=list(features))


def group_matrix(matrix: pd.DataFrame, groups: Mapping[str, str]) -> pd.DataFrame:
    """Return the mean CKA between models of every two groups, no model with itself; NaN where there is no such pair.

    Args:
        matrix: of `cka_matrix`.
        groups: of the models.
    """
    values = matrix.to_numpy(dtype=np.float64, copy=True)
    np.fill_diagonal(values, np.nan)
    mine = np.array([groups[name] for name in matrix.index], dtype=object)
    names = list(dict.fromkeys(mine.tolist()))
    means = [[_mean(values[np.ix_(mine == one, mine == other)]) for other in names] for one in names]
    return pd.DataFrame(means, index=names, columns=names)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
