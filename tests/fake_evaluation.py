"""Plausible tables of an evaluation's further side for tests of the report: other models, all seeds, checkpoints."""

from __future__ import annotations

import numpy as np
import pandas as pd

from domix.evaluate.schemas import COMPARISONS, CURVES, EFFECTIVE, MIXTURES, ROBUSTNESS
from domix.runtime.files import write_json
from domix.runtime.tables import read_table, write_table
from tests.fake_report import BASELINES, Fake

SUPERVISED, PUBLIC = ["cg-high", "natural-only"], ["public-small"]
SETS = {"imagenet_v2": ["all"], "imagenet_r": ["all", "subset"]}


def write_further(fake: Fake, checkpoints: int = 33) -> None:
    """Add the kinds, and every further table, to what `fake` has written; `checkpoints` a run, the last the final."""
    folder = fake.folder / "eval"
    metrics = read_table(folder / "metrics.parquet")
    for name in ("metrics", "per_class", "predictions", "paired"):
        frame = read_table(folder / f"{name}.parquet")
        others = [frame] if name == "paired" else [frame, *_others(frame, fake)]
        write_table(folder / f"{name}.parquet", pd.concat(others, ignore_index=True))
    for mixture in SUPERVISED:
        for seed in fake.seeds:
            model = fake.folder / "models" / "supervised" / f"{mixture}-s{seed}"
            write_json(model / "config.json", {"encoder": {"image_size": 224}, "recipe": {"batch": 128}})
            write_json(model / "done.json", {"steps": 352, "samples": 90112, "loss": 0.2, "weights_sha256": "c" * 64})
    MIXTURES.write(_over_seeds(metrics, fake), folder / "mixtures.parquet")
    COMPARISONS.write(_comparisons(fake), folder / "comparisons.parquet")
    curves = _curves(metrics, fake, checkpoints)
    CURVES.write(curves, folder / "curves.parquet")
    ROBUSTNESS.write(_robustness(fake), folder / "robustness.parquet")
    EFFECTIVE.write(_effective(curves, fake), folder / "effective.parquet")
    for path in (fake.folder / "analysis/ood").glob("*.parquet"):
        table = read_table(path)
        names = [name for name in ("mixture", "mixture_a", "mixture_b") if name in table]
        theirs = table[table[names].isin(SUPERVISED).all(axis=1)].assign(kind="supervised")
        write_table(path, pd.concat([table, theirs.replace({"score": "mcm"}, "msp")], ignore_index=True))


def _others(frame: pd.DataFrame, fake: Fake) -> list[pd.DataFrame]:
    """Rows of classifiers and of a public model, made from CLIP models' rows."""
    classifiers = frame[frame["mixture"].isin(SUPERVISED)].assign(kind="supervised")
    first = (frame["mixture"] == fake.mixtures[-1]) & (frame["seed"] == fake.seeds[0])
    return [classifiers, frame[first].assign(kind="public", mixture=PUBLIC[0], seed=0)]


def _over_seeds(metrics: pd.DataFrame, fake: Fake) -> pd.DataFrame:
    keys = ["mixture", "domain", "cells", "metric"]
    groups = metrics.groupby(keys, sort=False)
    frame = groups[["estimate", "low", "high", "n", "n_classes", "chance"]].mean().reset_index()
    frame = frame.assign(low=(frame["low"] - 0.01).clip(0), high=frame["high"] + 0.01)  # the seeds' share
    frame = frame.astype({"n": int, "n_classes": int}).assign(
        seeds=len(fake.seeds), checkpoints=1, method="bootstrap", kind="clip"
    )
    return pd.concat([frame, frame[frame["mixture"].isin(SUPERVISED)].assign(kind="supervised")], ignore_index=True)


def _comparisons(fake: Fake) -> pd.DataFrame:
    frame = read_table(fake.folder / "eval" / "paired.parquet")
    keys = ["kind", "domain", "cells", "metric", "mixture", "baseline"]
    means = frame.groupby(keys, sort=False)[["difference", "low", "high", "p_value", "n"]].mean().reset_index()
    means["p_holm"] = (means["p_value"] * max(1, len(means))).clip(upper=1)
    return means.astype({"n": int}).assign(
        n_classes=len(fake.test_classes), seeds=len(fake.seeds), checkpoints=1, detectable=0.071
    )


def _curves(metrics: pd.DataFrame, fake: Fake, checkpoints: int) -> pd.DataFrame:
    rng, parts = np.random.default_rng(5), []
    epochs = np.arange(checkpoints)
    for row in metrics[metrics["metric"] == "balanced_top1"].itertuples():
        rise = 1 - np.exp(-epochs / 6) if checkpoints > 1 else np.ones(1)
        values = (row.estimate * rise / rise[-1] + rng.normal(0, 0.008, checkpoints)).clip(0.001, 0.999)
        place = {"mixture": row.mixture, "seed": row.seed, "checkpoint": epochs, "domain": row.domain}
        parts.append(pd.DataFrame(place | {"cells": row.cells, "metric": row.metric, "estimate": values, "n": row.n}))
    return pd.concat(parts, ignore_index=True).assign(kind="clip", n_classes=len(fake.test_classes))


def _robustness(fake: Fake) -> pd.DataFrame:
    rng, rows = np.random.default_rng(6), []
    models = [("clip", m, s) for m in fake.mixtures for s in fake.seeds]
    models += [("supervised", m, s) for m in SUPERVISED for s in fake.seeds] + [("public", PUBLIC[0], 0)]
    for kind, mixture, seed in models:
        for name, spaces in SETS.items():
            for labels in spaces:
                for metric, extra in (("top1", 0.0), ("top5", 0.2), ("balanced_top1", 0.01)):
                    value = 0.2 + extra + 0.1 * (labels == "subset") + rng.random() / 20
                    ends = {"estimate": value, "low": value - 0.01, "high": value + 0.01}
                    model = {"kind": kind, "mixture": mixture, "seed": seed, "set": name, "labels": labels}
                    rows.append(model | {"metric": metric} | ends | {"n": 10000, "n_classes": 200, "method": "x"})
    return pd.DataFrame(rows)


def _effective(curves: pd.DataFrame, fake: Fake) -> pd.DataFrame:
    keys = ["kind", "mixture", "seed", "checkpoint"]
    natural = curves[(curves["domain"] == "real") & (curves["cells"] == "tested")]
    held_out = curves[(curves["domain"] == fake.test_domain) & (curves["cells"] == "held_out")]
    frame = natural[[*keys, "estimate"]].merge(held_out[[*keys, "estimate"]], on=keys, suffixes=("_x", "_y"))
    frame = frame.rename(columns={"estimate_x": "x", "estimate_y": "y"})
    frame["expected"] = 1 / (1 + np.exp(-(0.6 * np.log(frame["x"] / (1 - frame["x"])) - 2.6)))
    frame = frame.assign(residual=frame["y"] - frame["expected"], reference=BASELINES[0])
    frame = frame.assign(low=frame["expected"] * 0.9, high=frame["expected"] * 1.1)
    names = {"x_name": "real tested balanced_top1", "y_name": f"{fake.test_domain} held_out balanced_top1"}
    return pd.concat([frame.assign(transform=name, **names) for name in ("logit", "probit", "linear")])
