"""Pairs of domains as two groups, those with the test domain and the others: mean CKA by layer, with bands.

A band is a percentile interval of the mean over pairs drawn with replacement (the reference study's figure draws such).
Pairs that share a domain are no independent draws, so that it says how much the pairs differ, and no more. Shapes: P
pairs, L layers, B resamples.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from domix.evaluate.bootstrap import draw_classes

KEYS = ["mixture", "subset", "group"]
COLUMNS = [*KEYS, "layer", "depth", "value", "low", "high"]
RESAMPLES = 2000
SEED = 0


def group_bands(layers: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Average CKA over the pairs of each group in every layer, with the ends of its band.

    Args:
        layers: `mixture, subset, group, layer, depth, domain_a, domain_b, value`, a row a pair and layer.
        confidence: what the bands cover.

    Returns:
        `mixture, subset, group, layer, depth, value, low, high`; the ends are NaN for a single pair.
    """
    parts = []
    for _, rows in layers.groupby(KEYS, sort=False):
        order = rows.drop_duplicates("layer").sort_values("depth")[["layer", "depth"]]
        wide = rows.pivot(index=["domain_a", "domain_b"], columns="layer", values="value")[order["layer"]]
        values = wide.to_numpy()
        known = ~np.isnan(values)
        low = high = np.full(values.shape[1], np.nan)
        if len(values) > 1:
            times = draw_classes(len(values), resamples=RESAMPLES, seed=SEED)  # [B, P]
            with np.errstate(invalid="ignore"):  # no drawn pair has this layer
                means = (times @ np.where(known, values, 0.0)) / (times @ known)
            tail = (1 - confidence) / 2
            low, high = np.nanquantile(means, [tail, 1 - tail], axis=0)
        value = wide.mean().to_numpy()
        parts.append(order.assign(**rows[KEYS].iloc[0].to_dict(), value=value, low=low, high=high)[COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
