"""Made-up tables of single analyses, below a folder of artifacts, for tests of the report: see tests/fake_report.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from domix.analyses.registry import find
from domix.runtime.tables import write_table


def write_dimensions(folder: Path, points: pd.DataFrame, domains: Sequence[str], test_domain: str) -> None:
    """Write what separation says of single dimensions, and no second map; `points` are those of its map."""
    home = folder / "analysis/separation"
    write_table(home / "umap_without.parquet", points.iloc[:0])
    rows = [
        (*run, domain, rank, 7 - rank, (0.3 if domain == test_domain else 0.1) * (-1) ** rank / rank)
        for run in points[["mixture", "seed"]].drop_duplicates().itertuples(index=False, name=None)
        for domain in domains
        for rank in range(1, 7)
    ]
    names = ["mixture", "seed", "domain", "rank", "dimension", "difference"]
    write_table(home / "differences.parquet", pd.DataFrame(rows, columns=names))
    images = points[["mixture", "seed", "row", "domain", "x", "y"]]
    parts = [images.assign(separated=name) for name in domains]
    write_table(home / "scatter.parquet", pd.concat(parts, ignore_index=True))


def write_run_cka(
    folder: Path, runs: Sequence[str], layers: Sequence[str], domains: Sequence[str], test_domain: str
) -> None:
    """Write CKA of every run with the first: less the deeper, and on the images of the test domain."""
    rows = []
    for run in runs:
        for images in ("all", *domains):
            for a, site_a in enumerate(layers):
                for b, site_b in enumerate(layers):
                    value = 1 - 0.1 * abs(a - b) - (0.05 * a + 0.1 * (images == test_domain)) * (run != runs[0])
                    rows.append((runs[0], run, images, site_a, a, site_b, b, 40, value))
    names = ["reference", "run", "images", "site_a", "depth_a", "site_b", "depth_b", "n", "value"]
    write_table(folder / "analysis/run_cka/run_cka.parquet", pd.DataFrame(rows, columns=names))


def write_ood(folder: Path, mixtures: Sequence[str], seeds: Sequence[int], domains: Sequence[str], tested: str) -> None:
    """Write what a score finds, the worse the later a mixture stands: no set of foreign images, no single classes."""
    home, schemas = folder / "analysis/ood", find("ood").joint_tables
    groups = {"seen": 0.6, "held_out": 0.8, "tested": 0.7}
    head = {"score": "mcm", "set": "emoji", "low": 0.1, "high": 0.9}
    fixed = {"score": "mcm", "options": "temperature 1.0", "chosen": True, "validation": "", "auroc": float("nan")}
    rows: dict[str, list[dict]] = {name: [] for name in schemas}
    for place, mixture in enumerate(mixtures):
        for seed in seeds:
            run = {"kind": "clip", "mixture": mixture, "seed": seed}
            rows["options"].append(run | fixed | {"checkpoint": -1, "n_known": 0, "n_ood": 0})
            for group, auroc in groups.items():
                value = auroc - place / 20
                sizes = {"n_known": 40, "n_ood": 60, "metric": "auroc", "estimate": value}
                rows["metrics"] += [
                    run | head | sizes | {"group": group, "known": known} for known in ("natural", "full")
                ]
                accuracy = {"checkpoint": -1, "zeroshot": 0.9 - place / 10, "knn": 0.5 + place / 100}
                rows["models"].append(run | head | accuracy | {"group": group, "auroc": value})
            for domain in domains:
                cell = run | head | {"domain": domain, "n": 40, "flagged": 10, "share": 0.25}
                rows["flags"].append(cell | {"cells": "seen", "trained": domain != tested or place > 1})
                rows["flags"].append(cell | {"cells": "test", "trained": domain != tested})
        for before in range(place):
            pair: dict[str, Any] = {
                "kind": "clip",
                "mixture_a": mixture,
                "mixture_b": mixtures[before],
                "metric": "auroc",
                "known": "natural",
                "seeds": 1,
            }
            value = (before - place) / 20
            pair |= {"score": "mcm", "set": "emoji", "group": "held_out"}
            rows["differences"].append(pair | {"difference": value, "low": value - 0.01, "high": value + 0.01})
        rows["classes"].append(
            {"kind": "clip", "mixture": mixture, "seed": seeds[0], "score": "mcm", "set": "emoji", "n": 2}
            | {"group": "held_out", "class": "one", "auroc": 0.8}
        )
    for accuracy in ("zeroshot", "knn"):
        found = {
            "kind": "clip",
            "accuracy": accuracy,
            "group": "held_out",
            "r2": 0.9,
            "slope": 0.5,
            "n": len(mixtures) * len(seeds),
        }
        rows["correlations"].append(head | found)
    for name, schema in schemas.items():
        frame = pd.DataFrame(rows[name], columns=schema.names)
        schema.write(frame.astype({c.name: c.dtype for c in schema.columns}), home / f"{name}.parquet")


def write_features(folder: Path, runs: Sequence[tuple[str, int]], domains: Sequence[str]) -> None:
    """Write what domains share and what autoencoders explain, in place of tables without rows: test classes alone."""
    sae, sharing = folder / "analysis/sae", folder / "analysis/sharing"
    head = {"mixture": "str", "seed": "int64"}
    frame = pd.DataFrame(runs, columns=list(head)).astype(head)
    quality = frame.assign(site="attnpool", channels=8, units=16, n=40, explained_variance=0.9, l0=3.0, dead=0.1)
    write_table(sae / "quality.parquet", quality.assign(dense=0.2))
    parts = [
        frame.assign(domain=name, cells="test", n=20, explained_variance=0.9 - 0.1 * place, l0=3.0, accuracy=0.6)
        for place, name in enumerate(domains)
    ]
    losses = {"loss": 1.0, "loss_reconstructed": 1.2, "loss_ablated": 2.0, "recovered": 0.8}
    by_domain = pd.concat(parts, ignore_index=True).assign(accuracy_reconstructed=0.5, **losses)
    write_table(sae / "domains.parquet", by_domain)
    spread = {"value": 0.5, "low": 0.4, "high": 0.6, "null": 0.55, "p_value": 0.03}
    tested = frame.assign(cells="test")
    scores = [tested.assign(domain=name, **spread, n=6) for name in domains]
    write_table(sharing / "scores.parquet", pd.concat(scores, ignore_index=True))
    pairs = [
        tested.assign(domain_a=a, domain_b=b, **spread, n=6, units=18.0)
        for place, a in enumerate(domains)
        for b in domains[place + 1 :]
    ]
    write_table(sharing / "pairs.parquet", pd.concat(pairs, ignore_index=True))
