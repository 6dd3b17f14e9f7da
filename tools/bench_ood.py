"""Measure OOD scores and their intervals, on made-up features, beside the reference's formulas and pytorch-ood.

    python -m tools.bench_ood [NAME ...]      all, or some of: reference, pytorch_ood, memory, bootstrap

reference    scores of logits, 1 nearest neighbour, Mahalanobis and relative Mahalanobis: the formulas of Adaloglou et
             al. (2024), written literally in PyTorch, and as Domix computes them
pytorch_ood  all detectors that both have; only where pytorch-ood is installed
memory       neighbours and Gaussians from a bank in half precision on the disk
bootstrap    10,000 resamples of AUROC and FPR95 for 10 scores x 6 OOD sets, on the same draws

Sizes are a twentieth of ImageNet's bank and classes, a fifth of 110,000 images. Processor seconds are of all threads:
other work on the machine disturbs them less than the clock. Each measurement runs in a process of its own.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from domix.ood.metrics import auroc
from domix.ood.resampling import bootstrap_scores
from domix.ood.scores.gaussian import both_mahalanobis
from domix.ood.scores.registry import compute_score
from tools import bench_data
from tools.bench_data import memory, say

BANK, IMAGES, CLASSES, WIDTH, LOGITS = 66_000, 22_000, 50, 1024, 1000
RESAMPLES, SCORES, SETS, INSIDE, OUTSIDE = 10_000, 10, 6, 50_000, 10_000
Tensor = torch.Tensor


@dataclass
class Spent:
    """What work took: seconds on the clock, and of processors."""

    seconds: float
    processor: float
    result: Any


def spend(work: Callable[[], Any]) -> Spent:
    """Do some work and time it."""
    started, before = time.perf_counter(), time.process_time()
    result = work()
    return Spent(time.perf_counter() - started, time.process_time() - before, result)


def made() -> dict[str, np.ndarray]:
    """Make features of classes around centres: a bank, images like it and foreign ones, a head, logits."""
    rng = np.random.default_rng(0)
    centres = np.abs(rng.normal(0, 1, (CLASSES, WIDTH))).astype(np.float32)
    labels = np.arange(BANK) % CLASSES
    bank = rng.standard_normal((BANK, WIDTH), dtype=np.float32)
    bank += centres[labels]
    features = rng.standard_normal((IMAGES, WIDTH), dtype=np.float32)
    features[: IMAGES // 2] += centres[np.arange(IMAGES // 2) % CLASSES]
    weight = (centres - centres.mean(axis=0)) / 8
    given = {"bank": bank, "labels": labels, "features": features, "weight": weight}
    logits = 3 * rng.standard_normal((IMAGES, LOGITS), dtype=np.float32)
    return given | {"bias": -weight @ centres.mean(axis=0), "prototypes": centres, "logits": logits}


def reference_neighbours(features: Tensor, bank: Tensor) -> Tensor:
    """Return the reference's k-NN score (temp-cos-sim, k = 1), in chunks of a hundredth of the images."""
    normal = torch.nn.functional.normalize
    known = normal(bank)
    found = []
    for chunk in normal(features).split(max(1, len(features) // 100)):
        found.append((chunk @ known.T / 0.02).exp().topk(1, dim=1).values.mean(dim=1))
    return torch.cat(found)


def reference_mahalanobis(features: Tensor, bank: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the reference's Mahalanobis scores: class by class, in double precision."""
    x, known = features.double(), bank.double()
    parts = [known[labels == label] for label in labels.unique()]
    inverse = torch.linalg.inv(sum(part.T.cov() for part in parts) / len(parts))
    apart = [x - part.mean(dim=0) for part in parts]
    distances = torch.stack([((one @ inverse) * one).sum(dim=1) for one in apart], dim=1)
    around = x - known.mean(dim=0)
    background = ((around @ torch.linalg.inv(known.T.cov())) * around).sum(dim=1)
    return -distances.min(dim=1).values, -(distances - background[:, None]).min(dim=1).values


def reference_logits(z: Tensor) -> list[Tensor]:
    """Return the reference's scores of logits."""
    lowest = z.min(dim=1, keepdim=True).values
    return [z.softmax(dim=1).max(dim=1).values, z.logsumexp(dim=1), (z - lowest).sum(dim=1)]


def compare(name: str, ours: Spent, theirs: Spent, total: list[float]) -> None:
    """Print a line, and add to the sums of processor seconds (ours, theirs)."""
    total[0] += ours.processor
    total[1] += theirs.processor
    values = f"{ours.processor:8.1f} {theirs.processor:8.1f} {theirs.processor / max(ours.processor, 1e-9):6.1f}"
    say(name, f"{values}   ({ours.seconds:.1f}, {theirs.seconds:.1f} s)")


def head(title: str) -> None:
    """Print what is compared."""
    print(f"{title}: {IMAGES:,} images, bank of {BANK:,}, {CLASSES} classes, {WIDTH} dimensions")
    say("processor seconds", "Domix   theirs  ratio   (on the clock)")


def bench_reference(_: Path) -> None:
    """Compare with the reference's formulas."""
    given, total = made(), [0.0, 0.0]
    tensors = {name: torch.from_numpy(rows) for name, rows in given.items()}
    head("reference")
    theirs = spend(lambda: reference_logits(tensors["logits"]))
    ours = spend(lambda: [compute_score(name, given) for name in ("msp", "energy", "l1")])
    compare("msp, energy, l1", ours, theirs, total)
    assert all(np.allclose(a, b.numpy(), rtol=1e-3) for a, b in zip(ours.result, theirs.result, strict=True))
    ours = spend(lambda: compute_score("knn", given))
    theirs = spend(lambda: reference_neighbours(tensors["features"], tensors["bank"]))
    compare("knn", ours, theirs, total)
    assert np.allclose(ours.result, theirs.result.numpy(), rtol=1e-3)
    ours = spend(lambda: both_mahalanobis(given["features"], given["bank"], given["labels"]))
    theirs = spend(lambda: reference_mahalanobis(tensors["features"], tensors["bank"], tensors["labels"]))
    compare("mahalanobis, relative_mahalanobis", ours, theirs, total)
    assert all(np.allclose(a, b.numpy(), rtol=1e-6) for a, b in zip(ours.result, theirs.result, strict=True))
    say("all", f"{total[0]:8.1f} {total[1]:8.1f} {total[1] / total[0]:6.1f}", "5 times")


def bench_pytorch_ood(_: Path) -> None:
    """Compare with pytorch-ood's detectors."""
    try:
        them = importlib.import_module("pytorch_ood.detector")
    except ImportError:
        print("pytorch_ood: not installed, left out")
        return
    given, total = made(), [0.0, 0.0]
    x, bank, labels, z = (torch.from_numpy(given[name]) for name in ("features", "bank", "labels", "logits"))
    weight, bias = torch.from_numpy(given["weight"]), torch.from_numpy(given["bias"])
    maps, images = x[:, :, None, None], (x, z)

    def linear(rows: Tensor) -> Tensor:
        return rows.flatten(1) @ weight.T + bias

    def fitted(detector: Any) -> Callable[[], Tensor]:
        return lambda: detector.fit_features(bank, labels).predict_features(images[0])

    pairs: dict[tuple[str, tuple[tuple[str, Any], ...]], Callable[[], Tensor]] = {
        ("msp", ()): lambda: them.MaxSoftmax.score(z),
        ("max_logit", ()): lambda: them.MaxLogit.score(z),
        ("energy", ()): lambda: them.EnergyBased.score(z),
        ("entropy", ()): lambda: them.Entropy.score(z),
        ("gen", ()): lambda: them.GEN.score(z, M=100),
        ("knn", (("metric", "norm-l2"),)): fitted(them.KNN(None, k=1)),
        ("mahalanobis", (("weights", "size"),)): fitted(them.Mahalanobis(None)),
        ("relative_mahalanobis", (("weights", "size"),)): fitted(them.RMD(None)),
        ("vim", (("dimensions", 512),)): fitted(them.ViM(None, d=512, w=weight, b=bias)),
        ("nnguide", (("k", 10),)): fitted(them.NNGuide(None, linear, k=10)),
        ("she", ()): fitted(them.SHE(None, linear)),
        ("react", ()): lambda: (
            them.ReAct(None, linear).fit_feature_maps(bank[:, :, None, None], labels).predict_feature_maps(maps)
        ),
        ("ash", (("share", 0.65),)): lambda: them.ASH(None, linear).predict_feature_maps(maps),
        ("scale", (("share", 0.65),)): lambda: them.SCALE(None, linear).predict_feature_maps(maps),
    }
    head("pytorch_ood")
    for (name, options), work in pairs.items():
        ours = spend(lambda name=name, options=options: compute_score(name, given, **dict(options)))
        theirs = spend(work)
        compare(name, ours, theirs, total)
        half = IMAGES // 2
        found = [auroc(scores[:half], scores[half:]) for scores in (ours.result, -theirs.result.double().numpy())]
        if abs(found[0] - found[1]) > 1e-3:
            print(f"    AUROC {found[0]:.4f}, theirs {found[1]:.4f}")
    say("all", f"{total[0]:8.1f} {total[1]:8.1f} {total[1] / total[0]:6.1f}", "5 times")


def bench_memory(folder: Path) -> None:
    """Score images against a bank on the disk."""
    rng = np.random.default_rng(0)
    bank = np.lib.format.open_memmap(folder / "bank.npy", mode="w+", dtype=np.float16, shape=(BANK, WIDTH))
    for start in range(0, BANK, 2000):
        bank[start : start + 2000] = rng.standard_normal((2000, WIDTH), dtype=np.float32)
    bank.flush()
    features = rng.standard_normal((IMAGES, WIDTH), dtype=np.float32)
    given = {"features": features, "bank": np.load(folder / "bank.npy", mmap_mode="r"), "labels": np.arange(BANK) % 100}
    compute_score("msp", {"logits": features[:8]})
    before = memory()
    for name in ("knn", "relative_mahalanobis"):
        compute_score(name, given)
    print(f"memory: {IMAGES:,} images, bank of {BANK:,} on the disk in half precision")
    say("images, GB", f"{features.nbytes / 1e9:.2f}")
    say("bank, mapped, GB", f"{bank.nbytes / 1e9:.2f}")
    say("peak memory beyond the images, GB", f"{memory() - before:.2f}", "8 at full size")


def bench_bootstrap(_: Path) -> None:
    """Resample many pairs of sets."""
    rng = np.random.default_rng(0)
    inside = {f"score {n}": rng.normal(1, 1, INSIDE) for n in range(SCORES)}
    outside = {f"set {n}": {name: rng.normal(0, 1.5, OUTSIDE) for name in inside} for n in range(SETS)}
    print(f"bootstrap: {SCORES} scores x {SETS} sets, {INSIDE:,} ID and {OUTSIDE:,} OOD images")
    for workers in (1, 2):
        spent = spend(lambda workers=workers: bootstrap_scores(inside, outside, resamples=RESAMPLES, workers=workers))
        say(f"{RESAMPLES:,} resamples, {workers} threads, s", f"{spent.seconds:.1f}", "20, on two cores")
        say("processor seconds", f"{spent.processor:.1f}")


BENCHES: dict[str, Callable[[Path], None]] = {
    "reference": bench_reference,
    "pytorch_ood": bench_pytorch_ood,
    "memory": bench_memory,
    "bootstrap": bench_bootstrap,
}


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    return bench_data.run("bench_ood", BENCHES, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
