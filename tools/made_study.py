"""A study's tables without training: workspaces of a sweep with made-up, plausible numbers, for tests and measurements.

Each class has its own difficulty, each mixture its skill, which grows with the checkpoints; right answers are drawn
class by class. All tables follow from these draws by plain pandas.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML
from scipy import stats
from scipy.special import expit, logit

from domix.data.mixtures.cells import Split
from domix.data.mixtures.composition import CELLS
from domix.data.mixtures.names import parse_mixture
from domix.data.mixtures.recipes import Recipe
from domix.evaluate import schemas
from domix.evaluate.schemas import BALANCED, MACRO_F1
from domix.evaluate.statistics import holm
from domix.report.tables.claim import SCORES
from domix.runtime.files import write_json, write_text
from domix.runtime.seeds import derive

ROOT = Path(__file__).resolve().parent.parent
DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
TEST_DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "sketch")
MIXTURES = ("natural-only", "leave-out-domain", "cg-low", "cg-high", "cg-low-all", "cg-high-all")
EASE = {"clipart": 0.6, "infograph": -0.6, "painting": 0.3, "quickdraw": -1.6, "sketch": 0.0}
SAMPLES = 100_000  # of a mixture
BASELINES = ("natural-only", "leave-out-domain", "cg-low", "cg-high-all")
KEYS = ["kind", "mixture", "seed"]


@dataclass(frozen=True)
class Asked:
    """What the made-up sweep holds."""

    test_domains: Sequence[str] = TEST_DOMAINS
    mixtures: Sequence[str] = MIXTURES
    seeds: Sequence[int] = (0, 1, 2)
    checkpoints: Sequence[int] = (0, 1, 2, 4, 8, 16, 32)
    classes: int = 345
    test_classes: int = 15
    supervised: Sequence[str] = ()
    public: Sequence[str] = ()
    states: dict[str, str] = field(default_factory=dict)  # "<test domain>/<mixture>-<seed>" -> state, where not done
    unfinished: Sequence[str] = ()  # test domains without an evaluation

    def runs(self) -> list[tuple[str, str, int]]:
        """List the runs of a test domain: (kind, mixture, seed)."""
        runs = [("clip", mixture, seed) for mixture in self.mixtures for seed in self.seeds]
        runs += [("supervised", mixture, seed) for mixture in self.supervised for seed in self.seeds]
        return runs + [("public", name, 0) for name in self.public]


def make_sweep(root: Path, asked: Asked, name: str = "made") -> Path:
    """Write a sweep below `root` as `domix sweep` leaves it, and return its folder."""
    folder = root / ".cache" / "sweep" / name
    records = []
    for domain in asked.test_domains:
        make_workspace(folder / domain, domain, asked)
        records += [_record(name, domain, kind, None, None, "done") for kind in ("prepare", "report")]
        for kind, mixture, seed in asked.runs():
            if kind != "public":
                state = asked.states.get(f"{domain}/{mixture}-{seed}", "done")
                stage = {"clip": "train", "supervised": "train_supervised"}[kind]
                records.append(_record(name, domain, stage, mixture, seed, state))
    sweep = {
        "name": name,
        "state": "failed" if asked.states or asked.unfinished else "done",
        "asked": {
            "test_domains": list(asked.test_domains),
            "mixtures": list(asked.mixtures),
            "seeds": list(asked.seeds),
            "until": "report",
        },
        "workspaces": {domain: f".cache/sweep/{name}/{domain}" for domain in asked.test_domains},
        "runs": records,
    }
    write_json(folder / "sweep.json", sweep)
    return folder


def _record(name: str, domain: str, kind: str, mixture: str | None, seed: int | None, state: str) -> dict[str, Any]:
    part = kind if mixture is None else f"{kind}@{mixture}-{seed}"
    return {
        "name": f"{domain}/{part}",
        "kind": kind,
        "test_domain": domain,
        "mixture": mixture,
        "seed": seed,
        "state": state,
        "note": "" if state == "done" else "train: out of memory",
        "log": f".cache/sweep/{name}/logs/{domain}/{part}.log",
    }


def make_workspace(folder: Path, test_domain: str, asked: Asked, **changed: Any) -> None:
    """Write one test domain's parameters (`changed` at their top level), lock file and tables."""
    yaml = YAML(typ="safe", pure=True)
    params = yaml.load((ROOT / "presets" / "mini.yaml").read_text(encoding="utf-8"))
    params |= {"test_domain": test_domain, "mixtures": list(asked.mixtures), "seeds": list(asked.seeds)}
    params["models"] = {model: {"architecture": "RN50", "weights": "openai"} for model in asked.public}
    params["supervised"]["mixtures"] = list(asked.supervised)
    params["train"] |= {"samples": None, "epochs": max(asked.checkpoints)}
    text = io.StringIO()
    yaml.dump(params | changed, text)
    write_text(folder / "params.yaml", text.getvalue())
    lock = {"stages": {"mixtures": {"deps": [{"path": "artifacts/shards", "md5": "1234.dir"}]}}}
    text = io.StringIO()
    yaml.dump(lock, text)
    write_text(folder / "dvc.lock", text.getvalue())
    Workspace(folder / "artifacts", test_domain, asked).write()


class Workspace:
    """Writes the tables of one test domain."""

    def __init__(self, artifacts: Path, test_domain: str, asked: Asked) -> None:
        self.artifacts, self.test_domain, self.asked = artifacts, test_domain, asked
        self.classes = [f"class_{number:03d}" for number in range(asked.classes)]
        self.test_classes = self.classes[:: max(1, asked.classes // asked.test_classes)][: asked.test_classes]
        rng = np.random.default_rng(derive(5, "classes"))
        self.ease = dict(zip(self.classes, rng.normal(0, 0.9, len(self.classes)), strict=True))
        self.images = dict(zip(self.classes, rng.integers(20, 90, len(self.classes)), strict=True))
        names = tuple(self.classes)
        self.split = Split(test_domain, "real", tuple(self.test_classes), DOMAINS, names)
        self.recipes = {name: parse_mixture(name, self.split) for name in asked.mixtures}

    def write(self) -> None:
        """Write everything; the evaluation only where it is not unfinished."""
        self._mixtures()
        if self.test_domain in self.asked.unfinished:
            return
        folder = self.artifacts / "eval"
        per_class = pd.concat([self._answers(*run) for run in self.asked.runs()], ignore_index=True)
        last = per_class[per_class["checkpoint"] == max(self.asked.checkpoints)]
        held_out = (last["domain"] == self.test_domain) & last["class"].isin(self.test_classes)
        cells = last.assign(held_out=held_out, low=np.nan, high=np.nan)[schemas.PER_CLASS.names]
        schemas.PER_CLASS.write(cells.reset_index(drop=True), folder / "per_class.parquet")
        curves = self._measure(per_class)
        schemas.CURVES.write(
            curves[curves["kind"] != "public"].drop(columns=["low", "high"]), folder / "curves.parquet"
        )
        metrics = curves[curves["checkpoint"] == max(self.asked.checkpoints)].drop(columns="checkpoint")
        metrics = metrics.assign(chance=metrics["metric"].map(self._chance), method="bootstrap")
        schemas.METRICS.write(metrics, folder / "metrics.parquet")
        schemas.MIXTURES.write(self._over_seeds(metrics), folder / "mixtures.parquet")
        schemas.COMPARISONS.write(self._comparisons(last[held_out]), folder / "comparisons.parquet")
        schemas.EFFECTIVE.write(self._effective(curves), folder / "effective.parquet")
        schemas.ROBUSTNESS.write(self._robustness(), folder / "robustness.parquet")
        SCORES.write(self._scores(last[held_out]), self.artifacts / "report" / "scores.parquet")

    def _mixtures(self) -> None:
        described, cells = [], []
        for name, recipe in self.recipes.items():
            domains = {d: SAMPLES // len(recipe.domains) * (d in recipe.domains) for d in DOMAINS}
            described.append({"name": name, "alias": f"lso-{name}", "standard_name": name, "samples": SAMPLES})
            described[-1] |= {"digest": name, "dropped": 0, "sources": {"emoji": SAMPLES}, "domains": domains}
            cells += [
                (name, domain, label, count // len(self.classes))
                for domain, count in domains.items()
                for label in self.classes
                if count
            ]
        summary = {"test_domain": self.test_domain, "natural_domain": "real", "domains": list(DOMAINS)}
        summary |= {"classes": self.classes, "test_classes": self.test_classes, "mixtures": described}
        write_json(self.artifacts / "mixtures" / "summary.json", summary)
        frame = pd.DataFrame(cells, columns=["mixture", "domain", "class", "samples"])
        CELLS.write(frame, self.artifacts / "mixtures" / "cells.parquet")

    def _skill(self, kind: str, mixture: str, domain: str, tested: bool) -> float:
        """Return the logit of a mixture's accuracy at the end of training."""
        if kind == "public":
            return 1.2 + EASE.get(domain, 1.0)
        recipe = self.recipes[mixture]
        base = 0.9 - 0.1 * len(recipe.domains) if domain == "real" else -1.9 + 0.22 * len(recipe.domains)
        if domain == self.test_domain:
            base += EASE[domain] + self._gain(recipe, tested)
        return base - 0.5 * (kind == "supervised")

    def _gain(self, recipe: Recipe, tested: bool) -> float:
        if self.test_domain not in recipe.domains:
            return 0.0
        return 1.1 * (float(recipe.share) ** 0.5 if tested else 1.0)

    def _answers(self, kind: str, mixture: str, seed: int) -> pd.DataFrame:
        """Draw right answers by checkpoint, domain and class."""
        rng = np.random.default_rng(derive(7, kind, mixture, str(seed), self.test_domain))
        luck, parts = rng.normal(0, 0.08), []
        for domain in (self.test_domain, "real"):
            tested = np.isin(self.classes, self.test_classes)
            skill = np.where(tested, *(self._skill(kind, mixture, domain, is_tested) for is_tested in (True, False)))
            hard = skill + np.array([self.ease[name] for name in self.classes]) + luck + rng.normal(0, 0.3, len(skill))
            images = np.array([self.images[name] for name in self.classes])
            for checkpoint in self.asked.checkpoints:
                learnt = hard - 6.0 * np.exp(-checkpoint / 4)
                correct = rng.binomial(images, expit(learnt))
                among_five = correct + rng.binomial(images - correct, 0.3)
                columns = {"domain": domain, "class": self.classes, "n": images, "correct": correct}
                frame = pd.DataFrame({"kind": kind, "mixture": mixture, "seed": seed} | columns)
                parts.append(frame.assign(checkpoint=checkpoint, top5=among_five / images))
        frame = pd.concat(parts, ignore_index=True)
        return frame.assign(accuracy=frame["correct"] / frame["n"])

    def _measure(self, answers: pd.DataFrame) -> pd.DataFrame:
        special = np.where(answers["domain"] == self.test_domain, "held_out", "tested")
        frame = answers.assign(cells=np.where(answers["class"].isin(self.test_classes), special, "seen"))
        groups = frame.groupby([*KEYS, "checkpoint", "domain", "cells"], sort=False)
        sizes = groups.agg(n=("n", "sum"), n_classes=("n", "count"))
        parts = []
        for metric, column, factor in (
            (BALANCED, "accuracy", 1.0),
            ("balanced_top5", "top5", 1.0),
            (MACRO_F1, "accuracy", 0.93),
        ):
            mean, error = groups[column].mean() * factor, groups[column].sem() * 1.96
            ends = {"low": (mean - error).clip(0), "high": (mean + error).clip(upper=1)}
            parts.append(sizes.assign(metric=metric, estimate=mean, **ends).reset_index())
        order = [*KEYS, "checkpoint", "domain", "cells", "metric", "estimate", "low", "high", "n", "n_classes"]
        return pd.concat(parts, ignore_index=True)[order]

    def _chance(self, metric: str) -> float:
        return {BALANCED: 1 / len(self.classes), "balanced_top5": 5 / len(self.classes)}.get(metric, np.nan)

    def _over_seeds(self, metrics: pd.DataFrame) -> pd.DataFrame:
        groups = metrics.groupby(["kind", "mixture", "domain", "cells", "metric"], sort=False)
        means = groups[["estimate", "low", "high", "n", "n_classes"]].mean().astype({"n": int, "n_classes": int})
        merged = means.assign(seeds=groups["seed"].nunique(), checkpoints=1, chance=groups["chance"].first())
        return merged.assign(method="bootstrap").reset_index()

    def _comparisons(self, held_out: pd.DataFrame) -> pd.DataFrame:
        rows = []
        for kind, part in held_out.groupby("kind", sort=False):
            for metric, column in ((BALANCED, "accuracy"), ("balanced_top5", "top5")):
                wide = part.pivot_table(index="class", columns="mixture", values=column, aggfunc="mean")
                for baseline in [name for name in BASELINES if name in wide]:
                    rows += [
                        self._pair(str(kind), metric, str(mixture), baseline, wide, len(part))
                        for mixture in wide
                        if mixture != baseline
                    ]
        frame = pd.DataFrame(rows, columns=schemas.COMPARISONS.names)
        families = frame.groupby(["kind", "domain", "cells", "metric"], sort=False)["p_value"]
        return frame.assign(p_holm=families.transform(lambda p: holm(p.to_numpy())) if len(frame) else [])

    def _pair(
        self, kind: str, metric: str, mixture: str, baseline: str, wide: pd.DataFrame, rows: int
    ) -> dict[str, Any]:
        change = wide[mixture] - wide[baseline]
        error = max(float(change.sem()), 1e-6)
        place = {"kind": kind, "domain": self.test_domain, "cells": "held_out", "metric": metric}
        ends = {"low": change.mean() - 1.96 * error, "high": change.mean() + 1.96 * error}
        size = {"n": sum(self.images[name] for name in self.test_classes), "n_classes": len(wide)}
        counts = {"seeds": len(self.asked.seeds), "checkpoints": 1, "detectable": 2.8 * error}
        p_value = float(2 * stats.t.sf(abs(change.mean() / error), len(change) - 1))
        names = {"mixture": mixture, "baseline": baseline, "difference": change.mean()}
        return place | names | ends | {"p_value": p_value, "p_holm": np.nan} | size | counts

    def _effective(self, curves: pd.DataFrame) -> pd.DataFrame:
        keys = [*KEYS, "checkpoint"]
        rows = curves[(curves["metric"] == BALANCED) & (curves["kind"] == "clip")]
        x = rows[(rows["domain"] == "real") & (rows["cells"] == "tested")].set_index(keys)["estimate"]
        y = rows[rows["cells"] == "held_out"].set_index(keys)["estimate"]
        frame = pd.DataFrame({"x": x, "y": y}).clip(1e-3, 1 - 1e-3).reset_index()
        reference = frame[frame["mixture"] == "natural-only"]
        if len(self.asked.checkpoints) < 3 or reference.empty:
            return pd.DataFrame(columns=schemas.EFFECTIVE.names)
        fit = stats.linregress(logit(reference["x"]), logit(reference["y"]))
        line = fit.slope * logit(frame["x"]) + fit.intercept
        error = 2 * (fit.stderr * abs(logit(frame["x"]) - logit(reference["x"]).mean()) + fit.intercept_stderr)
        frame = frame.assign(expected=expit(line), low=expit(line - error), high=expit(line + error))
        names = {"x_name": f"real tested {BALANCED}", "y_name": f"{self.test_domain} held_out {BALANCED}"}
        frame = frame.assign(residual=frame["y"] - frame["expected"], transform="logit", **names)
        return frame.assign(reference="natural-only")[schemas.EFFECTIVE.names]

    def _scores(self, held_out: pd.DataFrame) -> pd.DataFrame:
        """Return features that follow the accuracy of classes, and CKA of models that says nothing."""
        parts = []
        for key, mine in held_out[held_out["kind"] == "clip"].groupby(KEYS, sort=False):
            rng = np.random.default_rng(derive(11, self.test_domain, *map(str, key)))
            frame = mine[[*KEYS, "class", "accuracy"]]
            value, seen = frame["accuracy"] + rng.normal(0, 0.1, len(mine)), rng.uniform(size=len(mine))
            parts.append(frame.assign(score="features", value=value, seen=seen))
            whole = {"class": "", "accuracy": frame["accuracy"].mean(), "value": rng.uniform(), "seen": seen.mean()}
            parts.append(frame.head(1).assign(score="CKA, late layers", **whole))
        return pd.concat(parts, ignore_index=True)

    def _robustness(self) -> pd.DataFrame:
        rows = [
            (*run, name, "all", "top1", 0.3 - place / 20, 0.29 - place / 20, 0.31 - place / 20, 10_000, 1000, "made up")
            for run in self.asked.runs()
            for place, name in enumerate(("imagenet", "imagenet-v2") if self.asked.public else ())
        ]
        return pd.DataFrame(rows, columns=schemas.ROBUSTNESS.names)
