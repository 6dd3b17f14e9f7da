"""Whether a signature goes with robustness over a zoo's models: correlations, at equal accuracy, without a family."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from domix.ood.correlation import LEAST, correlate
from domix.zoo.robustness import ACCURACY, ER, ID

SIGNATURE = (
    "kurtosis",
    "median",
    "outliers",
    "norm_share",
    "top",
    "top_mean_abs",
    "max_to_mean",
    "effective_rank",
    "prunable",
    "unique",
    "polysemanticity",
    "units",
    "ap",
)
STATISTICS = ("spearman", "pearson", "partial spearman", "partial pearson")
RELATIONS = ["number", "target", "statistic", "estimate", "low", "high", "models"]
WITHOUT = ["number", "target", "statistic", "family", "estimate"]
RESAMPLES = 2000


def targets_of(models: pd.DataFrame) -> list[str]:
    """Return the columns that a signature is held against: effective robustness, then accuracies."""
    return [name for start in (ER, ACCURACY) for name in models if name.startswith(start)] + [ID]


def relate(
    models: pd.DataFrame, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correlate each number of the signature with each target over models.

    Args:
        models: a row a model: `family`, ID, numbers of SIGNATURE, targets.
        confidence: of the intervals, which are of other models of the kind.
        resamples: of the models.
        seed: of the draws.

    Returns:
        A table of RELATIONS, partial correlations at equal ID accuracy (none with ID accuracy itself), and one of
        WITHOUT, the estimates with each family left out; models without a family stay. Where there are fewer than
        three models with both numbers, or all have the same number, there are no rows.
    """
    options = {"confidence": confidence, "resamples": resamples, "seed": seed}
    rows: list[dict[str, Any]] = []
    without: list[dict[str, Any]] = []
    for number, target, known in _pairs(models):
        families = known["family"].where(known["family"].notna(), "").tolist()
        control = None if target == ID else known[ID]
        found = correlate(known[number], known[target], control=control, families=families, **options)
        head = {"number": number, "target": target}
        for statistic in (name for name in STATISTICS if name in found.statistics):
            resampled = found.statistics[statistic]
            low, high = resampled.intervals["models"]
            numbers = {"estimate": resampled.estimate, "low": low, "high": high, "models": found.models}
            rows.append(head | {"statistic": statistic} | numbers)
            without += [
                head | {"statistic": statistic, "family": family, "estimate": left[statistic]}
                for family, left in found.without.items()
                if family
            ]
    return pd.DataFrame(rows, columns=RELATIONS), pd.DataFrame(without, columns=WITHOUT)


def _pairs(models: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield each number, each target, and the models that have both."""
    for number in (name for name in SIGNATURE if name in models):
        for target in targets_of(models):
            known = models[np.isfinite(models[[number, target, ID]].to_numpy(dtype=np.float64)).all(axis=1)]
            if len(known) >= LEAST and known[number].nunique() > 1 and known[target].nunique() > 1:
                yield number, target, known
