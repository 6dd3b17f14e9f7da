"""The numbers of the report: estimates and differences merged over seeds, and the content of metrics/.

Over several seeds or last checkpoints, numbers are those of the evaluation's tables over seeds (docs/statistics.md):
their intervals cover the choice of classes, images and seeds; the spread between seeds stands beside them. P-values
are corrected over the mixtures that are compared (Holm, 1979).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from domix.evaluate.schemas import AMONG_TEST, BALANCED
from domix.evaluate.statistics import holm
from domix.report.load.study import Results
from domix.runs import CLIP
from domix.runtime.errors import DataError

PRIMARY = BALANCED
PLACES = 4  # of the numbers in metrics/: finer than any interval, coarse enough to read a difference
KEYS = ["mixture", "domain", "cells", "metric"]
FOREMOST = (  # how the names of the numbers end that `dvc metrics` and `dvc exp show` are given
    *(f".held_out.{PRIMARY}{end}" for end in ("", ".low", ".high")),
    *(f".{panel}.{PRIMARY}" for panel in ("seen", "natural")),
    *(f".held_out.minus_baseline{end}" for end in ("", ".p", ".detectable")),
    ".held_out.gap_closed",
)


def estimates(study: Results) -> pd.DataFrame:
    """Merge the metrics over seeds.

    Returns one row a mixture, domain, cells and metric, mixtures in the study's order: `estimate, low, high, n,
    n_classes, chance`, the number of `seeds`, and the least and greatest seed's estimate, `seed_low` and `seed_high`.
    """
    return over_seeds(merged(study.metrics), study.further.mixtures, CLIP)


def over_seeds(frame: pd.DataFrame, mixtures: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Put estimates and intervals over seeds (mixtures.parquet), where there are any, in the place of merged ones."""
    mine = mixtures[(mixtures["kind"] == kind) & _several(mixtures)]
    if mine.empty:
        return frame
    found = frame[KEYS].merge(mine[[*KEYS, "estimate", "low", "high"]], on=KEYS, how="left")
    known = found["estimate"].notna().to_numpy()
    frame = frame.copy()
    for name in ("estimate", "low", "high"):
        frame.loc[known, name] = found.loc[known, name].to_numpy()
    return frame


def _several(frame: pd.DataFrame) -> pd.Series:
    return (frame["seeds"] > 1) | (frame["checkpoints"] > 1)


def merged(metrics: pd.DataFrame) -> pd.DataFrame:
    """Merge metrics of models of one kind over seeds, as `estimates` says."""
    groups = metrics.groupby(KEYS, sort=False)
    means = groups[["estimate", "low", "high", "n", "n_classes", "chance"]].mean()
    spread = groups["estimate"].agg(seeds="count", seed_low="min", seed_high="max")
    frame = means.join(spread).reset_index()
    return frame.astype({"n": int, "n_classes": int})


def pick(frame: pd.DataFrame, mixture: str, domain: str, cells: str, metric: str = PRIMARY) -> pd.Series | None:
    """Return the one row of `estimates` that is asked for, or None."""
    rows = frame[
        (frame["mixture"] == mixture)
        & (frame["domain"] == domain)
        & (frame["cells"] == cells)
        & (frame["metric"] == metric)
    ]
    return None if rows.empty else rows.iloc[0]


def differences(study: Results, baseline: str, cells: str = "held_out", metric: str = PRIMARY) -> pd.DataFrame:
    """Merge the paired comparisons of every mixture with `baseline` on the test domain over seeds.

    Returns one row a mixture that was compared, in the study's order: `mixture, baseline, difference, low, high,
    p_value` (after Holm's correction; NaN where none was given), `n`, and `verdict`: "more", "fewer" or "open".
    """
    comparisons = study.further.comparisons
    together = comparisons[(comparisons["kind"] == CLIP) & _several(comparisons)]
    rows = _oriented(study.paired if together.empty else together, baseline)
    rows = rows[(rows["domain"] == study.test_domain) & (rows["cells"] == cells) & (rows["metric"] == metric)]
    groups = rows.groupby("mixture")
    merged = groups[["difference", "low", "high", "n"]].mean()
    merged["p_value"] = groups["p_value"].max()
    merged = merged.reindex([m for m in study.mixtures if m in merged.index])
    merged["p_value"] = holm(merged["p_value"].to_numpy(dtype=float))
    alpha = round(1 - study.confidence, 12)  # 1 - 0.95 is a little more than 0.05
    merged["verdict"] = [verdict(r["low"], r["high"], r["p_value"], alpha) for _, r in merged.iterrows()]
    merged["baseline"] = baseline
    return merged.reset_index().astype({"n": int})


def _oriented(paired: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Return the comparisons with `baseline`, those that were written the other way round turned about."""
    straight = paired[paired["baseline"] == baseline]
    turned = paired[(paired["mixture"] == baseline) & ~paired["baseline"].isin(straight["mixture"])]
    turned = turned.assign(
        mixture=turned["baseline"],
        baseline=baseline,
        difference=-turned["difference"],
        low=-turned["high"],
        high=-turned["low"],
    )
    return turned if straight.empty else straight if turned.empty else pd.concat([straight, turned], ignore_index=True)


def verdict(low: float, high: float, p_value: float, alpha: float) -> str:
    """Say what a difference shows: "more" or "fewer" if interval and test agree that it is not 0, else "open"."""
    if not np.isnan(p_value) and p_value >= alpha:
        return "open"
    return "more" if low > 0 else "fewer" if high < 0 else "open"


def gap_closed(mixture: float, baseline: float, upper: float) -> float | None:
    """Return the share of the way from `baseline` to `upper` that `mixture` goes; None where there is no way to go."""
    return None if upper <= baseline else (mixture - baseline) / (upper - baseline)


def panels(study: Results) -> list[tuple[str, str, str]]:
    """List what each mixture is measured on: (name free of the test domain, domain, cells)."""
    return [
        ("held_out", study.test_domain, "held_out"),
        ("seen", study.test_domain, "seen"),
        ("natural", study.natural_domain, "all"),
    ]


def results(study: Results) -> dict[str, float | int | str]:
    """Return the flat, rounded numbers of the study's own models; their names do not depend on the test domain.

    Raises:
        DataError: the balanced accuracy on the held-out cells is missing for a mixture.
    """
    frame = estimates(study)
    flat: dict[str, float | int | str] = {"test_domain": study.test_domain}
    for mixture in study.mixtures:
        for panel, domain, cells in panels(study):
            row = pick(frame, mixture, domain, cells)
            if row is None:
                continue
            flat[f"{mixture}.{panel}.n"] = int(row["n"])
            flat[f"{mixture}.{panel}.seeds"] = int(row["seeds"])
            for metric in frame["metric"].unique():
                flat |= entries(f"{mixture}.{panel}.{metric}", pick(frame, mixture, domain, cells, metric))
        if pick(frame, mixture, study.test_domain, "held_out") is None:
            raise DataError(
                f"eval/metrics.parquet holds no {PRIMARY} of {mixture} on the held-out cells of {study.test_domain}",
                argument="study",
            )
    return flat | _comparisons(study, frame)


def foremost(numbers: Mapping[str, float | int | str]) -> dict[str, float | int | str]:
    """Return the few numbers of each model that stand side by side in `dvc metrics` and `dvc exp show`."""
    return {name: value for name, value in numbers.items() if name == "test_domain" or name.endswith(FOREMOST)}


def table_of(numbers: Mapping[str, float | int | str]) -> pd.DataFrame:
    """Return all numbers as a table of names and values."""
    return pd.DataFrame({"name": list(numbers), "value": list(numbers.values())})


def entries(name: str, row: pd.Series | None) -> dict[str, float]:
    """Return an estimate under `name`, with its interval where it has one; nothing where it was not measured."""
    if row is None or np.isnan(row["estimate"]):
        return {}
    ends = {f"{name}.{end}": round(float(row[end]), PLACES) for end in ("low", "high") if not np.isnan(row[end])}
    return {name: round(float(row["estimate"]), PLACES)} | ends


def _comparisons(study: Results, frame: pd.DataFrame) -> dict[str, float]:
    """Return each mixture's difference from the baseline, and the share of the way to the upper bound it goes."""
    if study.baseline is None:
        return {}
    flat: dict[str, float] = {}
    for _, row in differences(study, study.baseline).iterrows():
        name = f"{row['mixture']}.held_out.minus_baseline"
        flat[name] = round(float(row["difference"]), PLACES)
        flat |= {f"{name}.{end}": round(float(row[end]), PLACES) for end in ("low", "high")}
        if not np.isnan(row["p_value"]):
            flat[f"{name}.p"] = round(float(row["p_value"]), PLACES)
    ends = [pick(frame, name, study.test_domain, "held_out") for name in (study.baseline, study.upper_bound or "")]
    if ends[0] is None or ends[1] is None:
        return flat
    for mixture in study.mixtures:
        row = pick(frame, mixture, study.test_domain, "held_out")
        if mixture in (study.baseline, study.upper_bound) or row is None:
            continue
        share = gap_closed(float(row["estimate"]), float(ends[0]["estimate"]), float(ends[1]["estimate"]))
        if share is not None:
            flat[f"{mixture}.held_out.gap_closed"] = round(share, PLACES)
    return flat


def result_table(study: Results) -> list[dict[str, object]]:
    """Return the page's result table: one row a mixture, with its samples and its row of `estimates` a panel.

    `kind` is empty: the study's own CLIP models need no further word.
    """
    frame = estimates(study)
    samples = {mixture["name"]: mixture["samples"] for mixture in study.summary["mixtures"]}
    return [
        {
            "mixture": mixture,
            "kind": "",
            "samples": int(samples[mixture]),
            "held_out_samples": study.held_out_samples(mixture),
            "among_test": pick(frame, mixture, study.test_domain, "held_out", AMONG_TEST),
        }
        | {panel: pick(frame, mixture, domain, cells) for panel, domain, cells in panels(study)}
        for mixture in study.mixtures
    ]


def blind(study: Results) -> list[str]:
    """Return the mixtures without the held-out cells; all of them where there is none."""
    return [m for m in study.mixtures if study.held_out_samples(m) == 0] or study.mixtures


def class_table(study: Results) -> pd.DataFrame:
    """Return the accuracy on each held-out cell, mean over seeds: one row a test class, one column a mixture.

    Rows run from the class that the mixtures without the held-out cells read best to the worst, then by name.
    """
    rows = study.per_class[study.per_class["held_out"] & (study.per_class["domain"] == study.test_domain)]
    table = rows.pivot_table(index="class", columns="mixture", values="accuracy", aggfunc="mean")
    table = table.reindex(columns=study.mixtures)
    order = table[blind(study)].mean(axis=1).rename("mean").reset_index()
    order = order.sort_values(["mean", "class"], ascending=[False, True], kind="stable")
    return table.loc[order["class"]]
