"""Plausible artifacts for tests of the report: the files of docs/architecture.md, made up from a seed."""

from __future__ import annotations

import functools
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from domix.analyses.contract import AnalysisResults, Images, Shared
from domix.analyses.registry import analyses, find
from domix.data.archives.manifests import load_manifest
from domix.data.mixtures.composition import CELLS
from domix.evaluate.schemas import METRICS, PAIRED, PER_CLASS, PREDICTIONS
from domix.report.load.evaluation import FURTHER
from domix.report.load.study import Results
from domix.report.page.datacards import SourceCard, make_card
from domix.report.page.examples import data_uri
from domix.runtime.files import write_json, write_text
from domix.runtime.settings import Settings
from domix.runtime.tables import write_table
from tests.fake_analyses import write_dimensions, write_ood, write_run_cka

DOMAINS = ["clipart", "infograph", "painting", "quickdraw", "real", "sketch"]
MIXTURES = ["natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-high-all"]
ACCURACY = {  # of the held out and the seen cells of the test domain, and of the natural domain
    "natural-only": (0.06, 0.07, 0.52),
    "leave-out-domain": (0.15, 0.16, 0.44),
    "cg-low": (0.09, 0.46, 0.50),
    "cg-high": (0.21, 0.40, 0.43),
    "cg-high-all": (0.38, 0.39, 0.43),
}
LAYERS = ["stem", "layer1.0", "layer2.0", "layer3.0", "layer4.0", "attnpool"]
BASELINES = ("natural-only", "leave-out-domain", "cg-low", "cg-high-all")
CONFIDENCE = 0.95


class Fake:
    """Writes fake artifacts below `folder`.

    `accuracy` overrides ACCURACY for mixtures; `standard` the standard names of those called otherwise; `copies` is
    the number of held-out images that training holds copies of.
    """

    def __init__(
        self,
        folder: Path,
        *,
        test_domain: str = "clipart",
        mixtures: list[str] | None = None,
        seeds: list[int] | None = None,
        classes: int = 40,
        test_classes: int = 20,
        accuracy: dict[str, tuple[float, float, float]] | None = None,
        standard: dict[str, str] | None = None,
        copies: int = 2,
    ) -> None:
        self.folder, self.test_domain = folder, test_domain
        self.mixtures = MIXTURES if mixtures is None else mixtures
        self.seeds = [0] if seeds is None else seeds
        self.classes = [f"object_{number:03d}" for number in range(classes)]
        self.test_classes = self.classes[::-1][:test_classes]
        self.accuracy = ACCURACY | (accuracy or {})
        self.standard = standard or {}
        self.copies = copies
        self.rng = np.random.default_rng(7)
        self.rows = self._index()

    def _index(self) -> pd.DataFrame:
        """One or two test drawings a cell."""
        cells = [(d, c) for d in DOMAINS for c in self.classes for _ in range(1 + (hash_of(d + c) % 2))]
        frame = pd.DataFrame(cells, columns=["domain", "class"])
        tested = frame["class"].isin(self.test_classes)
        return frame.assign(row=np.arange(len(frame)), tested=tested)

    def write(self) -> Path:
        """Write every file that the report reads, and return the folder."""
        self._mixtures()
        for mixture in self.mixtures:
            for seed in self.seeds:
                self._model(mixture, seed)
        predictions = pd.concat([self._predictions(m, s) for m in self.mixtures for s in self.seeds], ignore_index=True)
        self._evaluation(predictions)
        self._separation()
        self._cka()
        self._others()
        runs = [f"{mixture}-s{seed}" for mixture in self.mixtures for seed in self.seeds]
        write_run_cka(self.folder, runs, LAYERS, DOMAINS, self.test_domain)
        write_ood(self.folder, self.mixtures, self.seeds, DOMAINS, self.test_domain)
        self._leakage()
        return self.folder

    def samples(self, mixture: str, domain: str, name: str) -> int:
        """Return the samples of one cell of a mixture, by its name."""
        mixture = self.standard.get(mixture, mixture)
        first = {"natural-only": ["real"], "cg-low": ["real", self.test_domain]}
        allowed = first.get(mixture, DOMAINS)
        if mixture == "leave-out-domain":
            allowed = [d for d in DOMAINS if d != self.test_domain]
        if domain not in allowed:
            return 0
        if domain == self.test_domain and name in self.test_classes and not mixture.endswith("-all"):
            return 0
        return 4 if len(allowed) <= 2 else 1 + hash_of(domain + name) % 2

    def _mixtures(self) -> None:
        cells = [(m, d, c, self.samples(m, d, c)) for m in self.mixtures for d in DOMAINS for c in self.classes]
        frame = pd.DataFrame(cells, columns=["mixture", "domain", "class", "samples"])
        CELLS.write(frame, self.folder / "mixtures" / "cells.parquet")
        totals = frame.groupby(["mixture", "domain"])["samples"].sum()
        described = [
            {
                "name": mixture,
                "alias": f"lso-{mixture}",
                "standard_name": self.standard.get(mixture, mixture),
                "samples": int(totals[mixture].sum()),
                "digest": f"{hash_of(mixture):064x}",
                "dropped": 3 if mixture == "cg-high" else 0,
                "sources": {"emoji": int(totals[mixture].sum())},
                "domains": {d: int(totals[mixture, d]) for d in DOMAINS},
            }
            for mixture in self.mixtures
        ]
        summary = {
            "test_domain": self.test_domain,
            "natural_domain": "real",
            "domains": DOMAINS,
            "classes": self.classes,
            "test_classes": self.test_classes,
            "mixtures": described,
        }
        write_json(self.folder / "mixtures" / "summary.json", summary)

    def _model(self, mixture: str, seed: int) -> None:
        folder = self.folder / "models" / "clip" / f"{mixture}-s{seed}"
        steps = np.arange(10, 360, 10)
        loss = (
            5.5 * np.exp(-steps / (150 + 30 * self.mixtures.index(mixture)))
            + 0.4
            + self.rng.normal(0, 0.05, len(steps))
        )
        lr = 3e-3 * np.minimum(steps / 35, 0.5 * (1 + np.cos(np.pi * steps / 360)))
        log = {"step": steps, "epoch": steps // 70, "samples": steps * 256, "loss": loss.round(4), "lr": lr}
        log |= {"logit_scale": 14 + steps / 40}
        write_text(folder / "log.csv", pd.DataFrame(log).to_csv(index=False))
        write_json(folder / "config.json", {"model": {"vision_cfg": {}}, "mixture_digest": f"{hash_of(mixture):064x}"})
        write_json(
            folder / "done.json",
            {"steps": 352, "samples": 90112, "loss": 1.2, "weights_sha256": f"{hash_of(mixture):064x}"},
        )

    def _predictions(self, mixture: str, seed: int) -> pd.DataFrame:
        held_out, seen, natural = self.accuracy.get(mixture, (0.1, 0.2, 0.4))
        rows = self.rows
        chance = np.where(rows["domain"] == "real", natural, seen)
        chance = np.where((rows["domain"] == self.test_domain) & rows["tested"], held_out, chance)
        ease = np.random.default_rng(3).beta(1.2, 1.2, len(rows))  # some drawings are easy for every model
        ease = ease.argsort().argsort() / len(rows)
        luck = 0.7 * ease + 0.3 * self.rng.random(len(rows))
        threshold = np.quantile(luck, 1 - chance)
        right = luck > np.array([threshold[i] for i in range(len(rows))])
        wrong = self.rng.choice(self.classes, len(rows))
        rank = np.where(right, 1, self.rng.integers(2, len(self.classes), len(rows)))
        return pd.DataFrame(
            {
                "kind": "clip",
                "mixture": mixture,
                "seed": seed,
                "row": rows["row"],
                "domain": rows["domain"],
                "class": rows["class"],
                "predicted": np.where(right, rows["class"], wrong),
                "rank": rank,
            }
        )

    def _evaluation(self, predictions: pd.DataFrame) -> None:
        folder = self.folder / "eval"
        PREDICTIONS.write(predictions, folder / "predictions.parquet")
        frame = predictions.assign(right=predictions["rank"] == 1, tested=predictions["class"].isin(self.test_classes))
        groups = frame.groupby(["mixture", "seed", "domain", "class"], sort=False)["right"]
        per_class = groups.agg(n="count", correct="sum", accuracy="mean").reset_index()
        tested = (per_class["domain"] == self.test_domain) & per_class["class"].isin(self.test_classes)
        per_class = per_class.assign(kind="clip", held_out=tested, low=np.nan, high=np.nan)
        PER_CLASS.write(per_class, folder / "per_class.parquet")
        metrics, paired = [], []
        for (mixture, seed, domain), part in frame.groupby(["mixture", "seed", "domain"], sort=False):
            for cells, chosen in (
                ("held_out" if domain == self.test_domain else "tested", part["tested"]),
                ("seen", ~part["tested"]),
                ("all", part["tested"] | True),
            ):
                metrics.append(self._metric(mixture, seed, domain, cells, part[chosen]))
                metrics.append(
                    metrics[-1] | {"metric": "balanced_top5", "estimate": min(1.0, metrics[-1]["estimate"] * 2)}
                )
        for seed in self.seeds:
            here = frame[(frame["seed"] == seed) & (frame["domain"] == self.test_domain) & frame["tested"]]
            wide = here.pivot(index="row", columns="mixture", values="right").astype(float)
            for baseline in self.mixtures:
                for mixture in self.mixtures:
                    if mixture != baseline and self.standard.get(baseline, baseline) in BASELINES:
                        paired.append(self._pair(wide, seed, mixture, baseline))
        METRICS.write(pd.DataFrame(metrics).assign(kind="clip"), folder / "metrics.parquet")
        pairs = pd.DataFrame(paired, columns=[name for name in PAIRED.names if name not in ("kind", "p_holm")])
        PAIRED.write(pairs.assign(kind="clip", p_holm=pairs["p_value"]), folder / "paired.parquet")
        for schema in FURTHER:  # an evaluation always writes them; what they hold: tests/fake_evaluation.py
            schema.write(schema.empty(), folder / f"{schema.name}.parquet")

    def _metric(self, mixture: str, seed: int, domain: str, cells: str, part: pd.DataFrame) -> dict:
        estimate, n = part["right"].mean(), len(part)
        half = 1.96 * np.sqrt(max(estimate * (1 - estimate), 0.01) / n)
        return {
            "mixture": mixture,
            "seed": seed,
            "domain": domain,
            "cells": cells,
            "metric": "balanced_top1",
            "estimate": estimate,
            "low": max(0.0, estimate - half),
            "high": min(1.0, estimate + half),
            "n": n,
            "n_classes": part["class"].nunique(),
            "chance": 1 / len(self.classes),
            "method": "bootstrap",
        }

    def _pair(self, wide: pd.DataFrame, seed: int, mixture: str, baseline: str) -> dict:
        change = wide[mixture] - wide[baseline]
        difference, error = change.mean(), max(change.std() / np.sqrt(len(change)), 1e-9)
        head = {"seed": seed, "domain": self.test_domain, "cells": "held_out", "metric": "balanced_top1"}
        ends = {"low": difference - 1.96 * error, "high": difference + 1.96 * error}
        p_value = float(np.exp(-0.717 * abs(difference / error) - 0.416 * (difference / error) ** 2))
        names = {"mixture": mixture, "baseline": baseline, "difference": difference}
        return head | names | ends | {"p_value": p_value, "n": len(change)}

    def _separation(self) -> None:
        points, distances = [], []
        centre = {d: self.rng.normal(0, 1, 2) for d in DOMAINS}
        place = {c: self.rng.normal(0, 3, 2) for c in self.classes}
        for mixture in self.mixtures:
            for seed in self.seeds:
                pull = 4 if mixture == "natural-only" else 1
                for row in self.rows.itertuples():
                    x, y = place[row[2]] + pull * centre[row[1]] + self.rng.normal(0, 0.4, 2)
                    points.append(
                        (mixture, seed, row[3], row[1], row[2], bool(row[4]) and row[1] == self.test_domain, x, y)
                    )
                for kind in ("domain", "class"):
                    for a in DOMAINS:
                        for b in DOMAINS:
                            far = 0.0 if a == b else pull * float(np.linalg.norm(centre[a] - centre[b])) / 8
                            distances.append((mixture, seed, kind, a, b, far))
        names = ["mixture", "seed", "row", "domain", "class", "held_out", "x", "y"]
        frame = pd.DataFrame(points, columns=names).astype({"x": "float32", "y": "float32"})
        write_table(self.folder / "analysis/separation/umap.parquet", frame)
        names = ["mixture", "seed", "kind", "domain_a", "domain_b", "distance"]
        write_table(self.folder / "analysis/separation/distances.parquet", pd.DataFrame(distances, columns=names))

        rows = [(m, s, d, 0.9, len(self.classes)) for m in self.mixtures for s in self.seeds for d in DOMAINS]
        names = ["mixture", "seed", "domain", "value", "n"]
        write_table(self.folder / "analysis/separation/separability.parquet", pd.DataFrame(rows, columns=names))
        write_dimensions(self.folder, frame, DOMAINS, self.test_domain)

    def _cka(self) -> None:
        rows = []
        for mixture in self.mixtures:
            for seed in self.seeds:
                for depth, layer in enumerate(LAYERS):
                    for kernel in ("linear", "rbf"):
                        for classes in ("all", "test", "seen"):
                            rows += self._pairs(mixture, seed, layer, depth, kernel, classes)
        names = ["mixture", "seed", "layer", "depth", "kernel", "classes", "domain_a", "domain_b", "n", "value"]
        write_table(self.folder / "analysis/cka/cka.parquet", pd.DataFrame(rows, columns=names))

    def _pairs(self, mixture: str, seed: int, layer: str, depth: int, kernel: str, classes: str) -> list[tuple]:
        rows = []
        for i, a in enumerate(DOMAINS):
            for b in DOMAINS[i + 1 :]:
                top = 0.25 if self.test_domain in (a, b) else 0.5
                top += 0.3 * (mixture == "cg-high-all")
                value = top * (0.4 + 0.6 * depth / len(LAYERS)) + self.rng.normal(0, 0.03)
                rows.append((mixture, seed, layer, depth, kernel, classes, a, b, 20, value))
        return rows

    def write_circuits(self) -> None:
        """Write how alike circuits are in each mixture's first seed, in place of the tables without rows."""
        pairs = [(a, b) for place, a in enumerate(DOMAINS) for b in DOMAINS[place + 1 :]]
        cells = [(m, self.seeds[0], name, a, b) for m in self.mixtures for name in self.classes for a, b in pairs]
        frame = pd.DataFrame(cells, columns=["mixture", "seed", "class", "domain_a", "domain_b"])
        layers = pd.concat([frame.assign(site=layer, depth=depth) for depth, layer in enumerate(LAYERS)])
        tables = {"similarity": frame.assign(measure="jaccard"), "node_similarity": layers}
        for name, table in tables.items():
            path = self.folder / f"analysis/circuits/{name}.parquet"
            write_table(path, table.assign(value=self.rng.uniform(0, 1, len(table))).reset_index(drop=True))

    def _leakage(self) -> None:
        """Copies in the base corpus `photos` and another class; five likest images of each held-out one."""
        folder, rng = self.folder / "analysis" / "leakage", np.random.default_rng(11)
        tested = self.rows[self.rows["tested"] & (self.rows["domain"] == self.test_domain)]
        pairs = [("exact", "photos", "photos", None, 0, None), ("near", "emoji", "real", self.classes[0], 4, None)]
        table = [(row, *pair) for row, pair in zip(tested["row"], pairs[: self.copies], strict=False)]
        for row in tested["row"]:
            for place, domain in enumerate(rng.choice(DOMAINS, 5)):
                near = rng.choice(self.classes)
                table.append((row, "embedding", "emoji", domain, near, None, 0.98 - place / 100 - rng.random() / 200))
        columns = ["test_row", "kind", "source", "domain", "class", "distance", "similarity"]
        frame = pd.DataFrame(table, columns=columns).astype({"distance": "Int64", "similarity": "float64"})
        frame = frame.assign(row=rng.integers(0, len(self.rows), len(frame)), tested=False)
        frame["mixtures"] = [self.mixtures if n % 3 else self.mixtures[:1] for n in range(len(frame))]
        write_table(folder / "duplicates.parquet", frame)
        summary = [
            {"mixture": mixture, "kind": kind, "samples": count, "images": count, "same_class": count // 3}
            | {"held_out_samples": 40 * mixture.endswith("-all"), "held_out": len(tested), "n": 1234}
            for mixture in self.mixtures
            for kind, count in (("exact", min(self.copies, 1)), ("near", max(self.copies - 1, 0)), ("embedding", 31))
        ]
        write_table(folder / "summary.parquet", pd.DataFrame(summary))
        write_table(folder / "domains.parquet", pd.DataFrame(self._domains()))
        rates = {domain: 0.86 if domain == self.test_domain else 0.05 for domain in DOMAINS}
        meta = {"encoder": f"{self.mixtures[-1]}-s0", "test_domain": self.test_domain, "natural_domain": "real"}
        meta |= {"held_out": len(tested), "samples": 4321, "similarity": 0.95, "near_bits": 6, "flat_held_out": 0}
        write_json(folder / "meta.json", meta | {"flat_samples": 7, "probe_images": 2000, "probe_rates": rates})

    def _others(self) -> None:
        """Write the tables of analyses that choose among the runs, without rows: here they have chosen none."""
        for name, analysis in analyses().items():
            if analysis.chooses:
                for schema in analysis.written():
                    schema.write(schema.empty(), self.folder / "analysis" / name / Path(schema.path).name)

    def _domains(self) -> list[dict]:
        rows = []
        for number, mixture in enumerate(self.mixtures):
            for source, labelled in (("emoji", 100 * number), ("photos", 0)):
                share = labelled / 1000 + 0.04
                row = {"mixture": mixture, "source": source, "domain": "all", "n": 1000, "labelled": labelled}
                row |= {"taken": int(1000 * share), "share": share, "true_positive": 0.86, "false_positive": 0.05}
                estimate = labelled / 1000 + (0.02 if source == "photos" else 0.0)
                rows.append(row | {"estimate": estimate, "low": max(0.0, estimate - 0.01), "high": estimate + 0.03})
        return rows

    def cards(self) -> list[SourceCard]:
        """Return the data cards of the set and of a base corpus that the user has supplied."""
        rows = self.rows.assign(split="test", size=3000, width=64, height=64)
        rows["key"] = [f"{d}/{c}/{row}" for d, c, row in zip(rows["domain"], rows["class"], rows["row"], strict=True)]
        rows["sha256"] = [f"{row // 2 if row < 8 else row:064x}" for row in rows["row"]]
        poses = rows.assign(split="train", key=rows["key"] + "-pose1", row=rows["row"] + len(rows))
        photos = rows.assign(split="train", domain="photos", **{"class": None}, width=rows["row"] + 64)
        bad = {"truncated": {"count": 4, "examples": ["a/b", "a/c", "a/d", "a/e"]}}
        both = pd.concat([rows, poses], ignore_index=True)
        return [
            make_card("emoji", both, {"read": len(both), "rejected": {}}, load_manifest("emoji")),
            make_card("photos", photos, {"read": len(photos) + 4, "rejected": bad}, None),
        ]


def hash_of(text: str) -> int:
    """A small number that depends on a text alone."""
    return sum(ord(letter) * (position + 1) for position, letter in enumerate(text))


def image(row: int) -> bytes:
    """A PNG that stands for test image `row`."""
    image = Image.new("RGB", (64, 64), "white")
    colour = tuple(np.random.default_rng(row).integers(0, 200, 3).tolist())
    ImageDraw.Draw(image).ellipse((8, 8 + row % 20, 56, 56), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def read(source: str, row: int) -> bytes:
    """A PNG that stands for the image of a row of any source."""
    return image(row + len(source))


@functools.cache
def _large() -> bytes:
    """A PNG of 256 pixels whose every pixel is drawn by chance."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (256, 256, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def large_image(source: str, row: int) -> bytes:
    """A large PNG in place of `read`'s small ones."""
    return _large()


def results_of(study: Results, name: str, settings: Settings | None = None) -> AnalysisResults:
    """What the section of an analysis is given, with its settings' defaults."""
    found, classes = study.analyses[name], study.predictions.drop_duplicates("row").set_index("row")["class"]
    images = Images(lambda source, row: data_uri(read(source, row)), lambda row: str(classes[row]))
    shared = Shared(confidence=CONFIDENCE, near_bits=6, drop="none", batch=512)
    return AnalysisResults(found.tables, found.facts, settings or find(name).Settings(), shared, images, "emoji")
