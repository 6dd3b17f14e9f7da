"""Made-up tables of outliers, directions, pruning, concepts and finetuned, for tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from domix.analyses.registry import find
from domix.runs import CLIP, Run
from domix.signature.concepts import concept_curve
from tests.made_section import MIXTURES

DOMAINS = {"natural-only": 1, "cg-low": 2, "leave-out-domain": 5}  # of training mixtures; others have six
CONCEPTS = (("group", "food"), ("domain", "sketch"), ("colour", "food"))
ALPHAS = (0.0, 0.5, 1.0)  # of fine-tuned models: the weights in between, and accuracy with them
NATURAL, HELD_OUT = {0.0: 0.2, 0.5: 0.3, 1.0: 0.4}, {0.0: 0.3, 0.5: 0.35, 1.0: 0.1}
WHEN = {("initial", 0): 0.0, ("kept", 3): 5.0, ("last", 12): 1.0}  # weights and epochs: what kurtosis is more


def write_signatures(folder: Path, runs: Sequence[Run]) -> None:
    """Write the tables of all these, below a folder of artifacts, in place of those without rows."""
    zero_shot = [run for run in runs if run.kind == CLIP]
    mixtures, seeds = (list(dict.fromkeys(run.keys[name] for run in zero_shot)) for name in ("mixture", "seed"))
    tables = {"outliers": outlier_tables(runs), "directions": direction_tables(runs), "pruning": pruning_tables(runs)}
    tables |= {"concepts": concept_tables(runs), "finetuned": finetuned_tables(mixtures, seeds)}
    for name, of_analysis in tables.items():
        for schema in find(name).written():
            schema.write(of_analysis[schema.name], folder / "analysis" / name / f"{schema.name}.parquet")


def facts(runs: Sequence[Run]) -> pd.DataFrame:
    """Return model_facts.MODELS of runs."""
    rows = [
        run.keys
        | {"domains": DOMAINS.get(run.mixture, 6)}
        | {
            "held_out": 0.1 * place,
            "seen": 0.2,
            "natural": 0.3 + 0.01 * ((place + run.seed) % 3),
            "natural_tested": 0.3,
        }
        for place, run in enumerate(runs)
    ]
    return pd.DataFrame(rows)


def outlier_tables(runs: Sequence[Run], outliers: int = 0) -> dict[str, pd.DataFrame]:
    """Return tables where each run has a kurtosis of its own, and cg-high `outliers` outlier features."""
    values = {"median": 3.0, "standard_error": 0.1, "norm_share": 0.25 * (outliers > 0), "n": 9}
    output, sites, features = [], [], []
    for place, run in enumerate(runs):
        head = run.keys
        of_run = outliers if run.mixture == "cg-high" else 0
        own = values | {"outliers": of_run, "norm_share": 0.25 if of_run else 0.0}
        for images, extra in (("all", 9.0), ("real", 0.0), ("sketch", 5.0)):
            for epoch in (3, 12):
                kurtosis = 4.0 + place + run.seed + extra - 0.1 * (epoch == 3)
                output.append(head | own | {"checkpoint": epoch, "images": images, "kurtosis": kurtosis})
            for (weights, checkpoint), more in WHEN.items():
                for depth, site in enumerate(("act1", "attnpool")):
                    at = {"weights": weights, "checkpoint": checkpoint, "site": site, "depth": depth}
                    kurtosis = 3.0 + depth + extra + more
                    sites.append(head | own | at | {"width": 8, "images": images, "large": 0, "kurtosis": kurtosis})
        if of_run:
            at = {"weights": "last", "checkpoint": 12, "site": "act1", "depth": 0}
            features.append(head | at | {"feature": 3, "mean_absolute": 2.0, "times_mean": 9.0})
    schema = find("outliers").written()
    empty = next(table for table in schema if table.name == "features").empty()
    return {
        "output": pd.DataFrame(output),
        "sites": pd.DataFrame(sites),
        "features": pd.DataFrame(features) if features else empty,
        "models": facts(runs),
    }


def direction_tables(runs: Sequence[Run]) -> dict[str, pd.DataFrame]:
    """Return tables of three directions a run, the second the most important."""
    directions, summary = [], []
    for place, run in enumerate(runs):
        head = run.keys
        for number, size in enumerate((3.0, 4.0 + place, 1.0)):
            along = {"cosine_with_mean": 0.5, "axis": 1, "axis_component": 0.7, "outlier_component": 0.25}
            values = {"direction": number, "singular_value": 4.0 - number, "abs_mean": size, "mean_abs": size / 2}
            directions.append(head | values | along)
        for kind, top in (("abs_mean", 4.0 + place), ("mean_abs", 2.0 + place / 2)):
            tail = {"top": top, "max_to_mean": 2.0 + place, "kurtosis": 3.0, "effective_rank": 2.5}
            sizes = {"images": 9, "width": 8, "rank": 3, "standing_out": int(place == 4), "direction": 1, "outliers": 1}
            first = {"cosine_with_mean": 0.5, "axis_component": 0.7, "outlier_component": 0.25}
            summary.append(head | {"importance": kind} | tail | sizes | first)
    return {"directions": pd.DataFrame(directions), "summary": pd.DataFrame(summary), "models": facts(runs)}


def pruning_tables(runs: Sequence[Run], checkpoints: int = 1) -> dict[str, pd.DataFrame]:
    """Return tables where 80 % can be pruned by importance, half by singular value, and nothing at random."""
    curves, kept = [], []
    for run in runs:
        head = run.keys
        for cells, whole in (("held_out", 0.3), ("seen", 0.4), ("natural", 0.5), ("natural_tested", 0.45)):
            for order, draws in (("importance", 1), ("singular value", 1), ("random", 2)):
                for draw in range(draws):
                    for percent in (0.0, 50.0, 80.0, 99.0):
                        lost = {"importance": 0.3 * (percent > 80), "singular value": 0.3 * (percent > 50)}
                        loss = lost.get(order, 0.003 * percent) + 0.01 * draw * (percent > 0)
                        at = {"order": order, "draw": draw, "percent": percent, "kept": 64 - int(percent * 0.64)}
                        curves.append(head | at | {"cells": cells, "accuracy": whole - loss, "n": 200})
            for epoch in range(checkpoints):
                accuracy = whole * (epoch + 1) / checkpoints - 0.01 * (cells == "held_out") * (epoch == 1)
                kept.append(head | {"checkpoint": epoch + 1, "cells": cells, "accuracy": accuracy, "n": 200})
    return {"curves": pd.DataFrame(curves), "checkpoints": pd.DataFrame(kept)}


def concept_tables(runs: Sequence[Run], sites: tuple[str, ...] = ("output",)) -> dict[str, pd.DataFrame]:
    """Return tables of three concepts and two units: each mixture's AP is higher than the one's before it."""
    parts: dict[str, list[pd.DataFrame]] = {"concepts": [], "units": [], "curve": []}
    for run in runs:
        place = MIXTURES.index(run.mixture) if run.mixture in MIXTURES else len(MIXTURES)
        more = 0.05 * place + 0.01 * run.seed
        ap = np.array([[0.7, 0.5, 0.2], [0.3, 0.6, 0.1]]) + more
        for site in sites:
            head = run.keys | {"site": site}
            category, concept = zip(*CONCEPTS, strict=True)
            best = {"ap": ap.max(axis=0), "unit": ap.argmax(axis=0), "sign": 1, "shown": 10, "images": 40}
            parts["concepts"].append(pd.DataFrame({**head, "category": category, "concept": concept, **best}))
            for unit, place in np.argwhere(ap >= 0.5).tolist():
                pair = {"unit": unit, "sign": 1, "category": category[place], "concept": concept[place]}
                parts["units"].append(pd.DataFrame([{**head, **pair, "ap": ap[unit, place]}]))
            numbers = vars(concept_curve(ap))
            parts["curve"].append(pd.DataFrame({**head, **numbers}).rename(columns={"thresholds": "threshold"}))
    columns = {schema.name: list(schema.names) for schema in find("concepts").written()}
    tables = {name: pd.concat(frames, ignore_index=True)[columns[name]] for name, frames in parts.items()}
    return tables | {"models": facts(runs)}


def finetuned_tables(mixtures: Sequence[str], seeds: Sequence[int] = (0, 1)) -> dict[str, pd.DataFrame]:
    """Return tables where cg-high is 0.1 better than natural-only, and seed 1 by 0.02 than seed 0."""
    curve, signature, pruning = [], [], []
    for mixture, seed, alpha in product(mixtures, seeds, ALPHAS):
        head = {"mixture": mixture, "seed": seed, "alpha": alpha}
        more = 0.1 * (mixture == "cg-high") + 0.02 * seed
        for cells, values in (
            ("natural", NATURAL),
            ("held_out", HELD_OUT),
            ("seen", NATURAL),
        ):
            for metric, factor in (("balanced_top1", 1.0), ("top1", 0.5)):
                row = {"cells": cells, "metric": metric, "estimate": factor * (values[alpha] + more), "n": 40}
                curve.append(head | row)
        signature.append(
            head
            | {"kurtosis": 5 - 2 * alpha, "se": 0.1, "outliers": 1, "norm_share": 0.1, "top": 2.0, "max_to_mean": 3.0}
            | {"effective_rank": 9.0, "cka": 1 - 0.4 * alpha, "n": 40, "trained_on": 1234}
        )
        for order, percent in product(("importance", "random"), (0.0, 50.0, 80.0)):
            loss = 0.2 if percent == 80 and not alpha else 0.0
            row = {"order": order, "draw": 0, "percent": percent, "kept": 5, "cells": "held_out", "n": 40}
            pruning.append(head | row | {"accuracy": HELD_OUT[alpha] - loss})
    return {"curve": pd.DataFrame(curve), "signature": pd.DataFrame(signature), "pruning": pd.DataFrame(pruning)}
