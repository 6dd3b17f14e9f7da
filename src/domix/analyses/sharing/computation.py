"""The tables of one run: what every two domains share, in every class and on average, and each domain's score."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from domix.analyses.sae.trained import train_for
from domix.analyses.sharing.overlap import CORRECTED, REFERENCE, histograms, score, sharing_matrix, votes
from domix.analyses.sharing.resampled import ClassSharing, mean_matrices, share_classes, spread
from domix.analyses.sharing.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from domix.analyses.contract import RunInputs
    from domix.analyses.sharing.overlap import Votes

CLASSES = ["class", "domain_a", "domain_b", "value", "units", "n_a", "n_b"]
PAIRS = ["cells", "domain_a", "domain_b", "value", "low", "high", "null", "p_value", "n", "units"]
SCORES = ["cells", "domain", "value", "low", "high", "null", "p_value", "n"]


def run(inputs: RunInputs, settings: Settings) -> dict[str, pd.DataFrame]:
    """Train a run's autoencoder, or find it, and compare the domains of the test images.

    Raises:
        DataError: an input is missing or damaged, values are not finite, or all units are dead.
        ParameterError: a setting does not fit the model.
    """
    trained, embeddings = train_for(inputs, settings), inputs.embeddings
    names, rows = list(embeddings.domains), embeddings.rows
    domain = np.array([names.index(name) for name in rows["domain"]])
    label = rows["label"].to_numpy()
    cast = votes(trained.codes)
    if settings.parity:
        found = as_reference(cast, label, domain, len(embeddings.classes), len(names), trained.autoencoder.units)
    else:
        with threadpool_limits(1):  # classes are small
            found = share_classes(
                cast,
                label,
                domain,
                classes=len(embeddings.classes),
                domains=len(names),
                draws=settings.draws,
                permutations=settings.permutations,
                seed=settings.seed,
            )
    return {
        "classes": class_table(found, names, embeddings.classes),
        **average_tables(found, names, inputs.study.class_subsets(), settings, inputs.shared.confidence),
    }


def as_reference(
    cast: Votes, label: NDArray[np.int64], domain: NDArray[np.int64], classes: int, domains: int, units: int
) -> ClassSharing:
    """Compare the domains as the reference study's code does; see overlap.REFERENCE."""
    counts = histograms(cast, label * domains + domain, classes * domains, units).reshape(classes, domains, units)
    matrices = np.stack([sharing_matrix(of_class, REFERENCE) for of_class in counts])
    images = np.bincount(label * domains + domain, minlength=classes * domains).reshape(classes, domains)
    none = np.empty((classes, 0, domains, domains), np.float32)
    return ClassSharing(matrices, (counts > 0).sum(axis=2).clip(max=20), images, none, none)


def class_table(found: ClassSharing, domains: Sequence[str], classes: Sequence[str]) -> pd.DataFrame:
    """Return CLASSES: every class and pair of domains that can be compared."""
    rows = []
    for number, name in enumerate(classes):
        for a, b in combinations(range(len(domains)), 2):
            value = found.observed[number, a, b]
            if np.isfinite(value):
                units = int(found.units[number, [a, b]].min())
                n = found.images[number]
                rows.append((name, domains[a], domains[b], float(value), units, int(n[a]), int(n[b])))
    return pd.DataFrame(rows, columns=CLASSES).astype(
        {"value": "float64", "units": "int64", "n_a": "int64", "n_b": "int64"}
    )


def average_tables(
    found: ClassSharing,
    domains: Sequence[str],
    subsets: dict[str, NDArray[np.bool_]],
    settings: Settings,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """Return PAIRS and SCORES of every subset of the classes that has any."""
    rules = REFERENCE if settings.parity else CORRECTED
    pairs, scores = [], []
    for cells, chosen in subsets.items():
        if not chosen.any():
            continue
        matrix, resampled, permuted = mean_matrices(found, chosen, resamples=settings.resamples, seed=settings.seed)
        known = np.isfinite(found.observed[chosen])
        smaller = np.minimum(found.units[chosen][:, :, None], found.units[chosen][:, None])
        units = np.divide(
            (smaller * known).sum(axis=0), known.sum(axis=0), where=known.any(axis=0), out=np.full(matrix.shape, np.nan)
        )
        ends = spread(matrix, resampled, permuted, confidence)
        for a, b in combinations(range(len(domains)), 2):
            values = [made[a, b] for made in (matrix, ends.low, ends.high, ends.null, ends.p_value)]
            pairs.append((cells, domains[a], domains[b], *values, int(known[:, a, b].sum()), units[a, b]))
        for number, name in enumerate(domains):
            own = score(matrix, number, rules)
            end = spread(own, score(resampled, number, rules), score(permuted, number, rules), confidence)
            n = int(np.delete(known[:, number], number, axis=1).any(axis=1).sum())
            values = [float(value) for value in (own, end.low, end.high, end.null, end.p_value)]
            scores.append((cells, name, *values, n))
    floats = dict.fromkeys(("value", "low", "high", "null", "p_value"), "float64")
    return {
        "pairs": pd.DataFrame(pairs, columns=PAIRS).astype(floats | {"n": "int64", "units": "float64"}),
        "scores": pd.DataFrame(scores, columns=SCORES).astype(floats | {"n": "int64"}),
    }
