"""A linear probe by scikit-learn's logistic regression: for sets that fit into memory, without a schedule to choose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domix.ood.blocks import Rows, blocks, check_labels, shape_of
from domix.ood.probes.linear_probe import LinearProbe, standardised_by
from domix.runtime.errors import DataError


def fit_logistic(
    features: Rows,
    labels: NDArray[np.int64],
    *,
    C: float = 1.0,
    classes: int | None = None,
    iterations: int = 1000,
) -> LinearProbe:
    """Fit a probe by L-BFGS to standardised features: the minimum of C * (sum of cross-entropies) + |W|^2 / 2.

    Args:
        features: [N, d]; all are held in memory.
        labels: int64 [N].
        C: scikit-learn's: the less, the smaller the weights.
        classes: how many there are; None: up to the greatest label.
        iterations: at most.

    Raises:
        DataError: shapes do not fit, a feature is not finite, there is a class without an image, or only one class.
    """
    from sklearn.linear_model import LogisticRegression

    labels = check_labels(labels, shape_of(features, "the features")[0], "the labels")
    mean, std = standardised_by(features)
    inputs = np.concatenate([(block - mean) / std for _, block in blocks(features, "the features", dtype=np.float32)])
    expected, known = classes or int(labels.max()) + 1, np.unique(labels)
    if len(known) < expected or expected < 2:
        raise DataError(
            f"{len(known)} of {expected} classes have images, but logistic regression needs one of each, and at least"
            " two classes: leave classes out, or train by SGD"
        )
    fitted = LogisticRegression(C=C, max_iter=iterations).fit(inputs, labels)
    weight, bias = fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32)
    if expected == 2:  # scikit-learn keeps the difference of two classes alone
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    return LinearProbe(weight, bias, mean, std)
