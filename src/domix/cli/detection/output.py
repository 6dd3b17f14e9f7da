"""What `domix ood` prints and writes: a table for readers, and the layouts of the reference's code and of OpenOOD."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from domix.ood.blocks import Floats
from domix.ood.tables import PLP_BY_TEMPERATURE, PLP_NAMES, group_means, openood_table, plp_metrics
from domix.runtime.files import write_json, write_text

logger = logging.getLogger(__name__)

Scores = Mapping[str, Floats]  # by name
Options = Mapping[str, Any]


def shown_table(table: pd.DataFrame, convention: str) -> pd.DataFrame:
    """Return scores by sets in percent, for readers, the means of a group below its sets where it has several.

    Args:
        table: domix.ood.tables.detection_table.
        convention: of FPR95.
    """
    means = group_means(table)
    means = means[means["sets"] > 1].assign(set=[f"mean, {group}" for group in means.loc[means["sets"] > 1, "group"]])
    both = pd.concat([table, means]) if len(means) else table
    order = {score: place for place, score in enumerate(table["score"].drop_duplicates())}
    both = both.sort_values("score", key=lambda names: names.map(order), kind="stable")
    measures = {"auroc": "AUROC", "aupr_id": "AUPR-in", "aupr_ood": "AUPR-out", f"fpr95_{convention}": "FPR95"}
    shown = both.rename(columns=measures)
    shown["images"] = [f"{n:.0f}" if pd.notna(n) else "" for n in shown["images"]]
    for name in measures.values():
        shown[name] = [f"{100 * value:.1f}" for value in shown[name]]
    return shown[["score", "set", "group", "images", *measures.values()]]


def write_reference(
    path: Path, known: Scores, foreign: Mapping[str, Scores], options: Mapping[str, Options], scale: float | None
) -> None:
    """Write the layout of ood_metrics.json (Adaloglou et al. 2024); scores that their code lacks are left out.

    Without a head its logits are plain cosines: MCM is its MSP, and a score of ours, of cosines times the scale, at
    temperature T is its score at T / scale.

    Args:
        path: of the file.
        known: scores of the known images.
        foreign: of the others, by set.
        options: hyper-parameters of each score.
        scale: of cosines in the logits; None: the logits are a head's.
    """
    keys = {name: key for name in known if (key := _reference_key(name, options[name], scale)) is not None}
    if missing := [name for name in known if name not in keys]:
        logger.warning("%s is left out of %s, whose layout does not have it", ", ".join(missing), path)
    listed = plp_metrics(
        {key: known[name] for name, key in keys.items()},
        {source: {key: some[name] for name, key in keys.items()} for source, some in foreign.items()},
    )
    write_json(path, listed)


def _reference_key(name: str, options: Options, scale: float | None) -> tuple[str, float | None] | None:
    """Return what the reference calls a score, and its temperature there."""
    temperature = float(options.get("temperature", 1.0))
    if name == "mcm" and scale is not None:
        return "msp", temperature
    if name not in PLP_NAMES:
        return None
    return name, temperature / (scale or 1.0) if name in PLP_BY_TEMPERATURE else None


def write_openood(path: Path, known: Floats, foreign: Scores, groups: Mapping[str, str], accuracy: float) -> None:
    """Write one score's results as OpenOOD v1.5 does (ood.csv)."""
    table = openood_table(known, foreign, groups=groups, accuracy=accuracy)
    write_text(path, table.to_csv(index=False))
