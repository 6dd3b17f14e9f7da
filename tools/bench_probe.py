"""Measure the linear probe at reduced size: against PLP's loop, and from a store against memory.

    python -m tools.bench_probe [NAME ...]      all, or some of: loop, store

loop    our probe on an array, and PLP's loop written out (TensorDataset, DataLoader that shuffles and collates sample
        by sample, nn.Linear, cross-entropy, Adam), on the same 60,000 x 1,024 features of 1,000 classes
store   our probe from a store of half precision on the disk, and on the array

In turns, one after the other; told are medians. Our probe's time has all that it does, PLP's the loop alone: features
are standardised before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from domix.activations.store import ActivationStore, StoreWriter
from domix.encoders.encoder import Activations
from domix.ood.blocks import Rows
from domix.ood.probes.linear_probe import LinearProbe, Recipe, learning_rates, standardised_by, train_probe
from tools import bench_data
from tools.bench_data import memory, say
from tools.bench_train import judge

IMAGES, WIDTH, CLASSES, TURNS = 60_000, 1_024, 1_000, 3
RECIPE = Recipe(epochs=3, batch=8_192)
FASTER, OF_MEMORY, CLOSE = 1.5, 0.95, 1e-4  # targets; how far apart the two loops' weights may end

Statistics = tuple[np.ndarray, np.ndarray]


def data() -> tuple[np.ndarray, np.ndarray, Statistics]:
    """Make features [N, d] that have half precision's values, their labels, mean and deviation."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, IMAGES)
    features = rng.normal(size=(CLASSES, WIDTH)).astype(np.float32)[labels]
    features += 3 * rng.standard_normal((IMAGES, WIDTH), dtype=np.float32)
    features = features.astype(np.float16).astype(np.float32)
    return features, labels, standardised_by(features)


def ours(features: Rows, labels: np.ndarray, statistics: Statistics) -> tuple[float, LinearProbe]:
    """Train; return the seconds, and the probe."""
    started = time.perf_counter()
    probe = train_probe(features, labels, RECIPE, classes=CLASSES, statistics=statistics)
    return time.perf_counter() - started, probe


def reference(inputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, np.ndarray]:
    """Train by PLP's loop on standardised features; return the seconds, and the weights."""
    started = time.perf_counter()
    torch.manual_seed(RECIPE.seed)
    layer = nn.Linear(WIDTH, CLASSES)
    optimiser = torch.optim.Adam(layer.parameters(), lr=RECIPE.lr, weight_decay=RECIPE.weight_decay)
    rates = iter(learning_rates(RECIPE.length(IMAGES), RECIPE.lr))
    loader = DataLoader(TensorDataset(inputs, targets), batch_size=RECIPE.batch, shuffle=True)
    for _ in range(RECIPE.epochs or 0):
        for some, wanted in loader:
            optimiser.param_groups[0]["lr"] = next(rates)
            optimiser.zero_grad()
            F.cross_entropy(layer(some), wanted).backward()
            optimiser.step()
    return time.perf_counter() - started, layer.weight.detach().numpy()


def bench_loop(folder: Path) -> None:
    """Compare with PLP's loop."""
    features, labels, statistics = data()
    inputs = torch.from_numpy((features - statistics[0]) / statistics[1])
    targets = torch.from_numpy(labels)
    found: dict[str, list[float]] = {"ours": [], "reference": []}
    for _ in range(TURNS):
        seconds, probe = ours(features, labels, statistics)
        found["ours"].append(seconds)
        seconds, weight = reference(inputs, targets)
        found["reference"].append(seconds)
    np.testing.assert_allclose(probe.weight, weight, atol=CLOSE)
    tell(found, "reference")
    judge("times faster than the reference's loop", median(found["reference"]) / median(found["ours"]), FASTER)


def bench_store(folder: Path) -> None:
    """Compare features in a store with features in memory."""
    features, labels, statistics = data()
    writer = StoreWriter(folder / "store", ["output"], IMAGES, key={})
    for first in range(0, IMAGES, writer.shard):
        block = torch.from_numpy(features[first : first + writer.shard])
        writer.update(Activations(block, {"output": block}), np.arange(first, first + len(block)))
    writer.result()
    store = list(ActivationStore(folder / "store").rows("output"))
    found: dict[str, list[float]] = {"ours": [], "store": []}
    for _ in range(TURNS):
        seconds, probe = ours(features, labels, statistics)
        found["ours"].append(seconds)
        seconds, stored = ours(store, labels, statistics)
        found["store"].append(seconds)
    np.testing.assert_array_equal(probe.weight, stored.weight)
    tell(found, "store")
    judge("of the speed of memory", median(found["ours"]) / median(found["store"]), OF_MEMORY)


def tell(found: dict[str, list[float]], other: str) -> None:
    """Print medians."""
    print(
        f"probe on {IMAGES:,} x {WIDTH:,}, {CLASSES:,} classes, {RECIPE.epochs} epochs of batches of {RECIPE.batch:,},"
        f" {torch.get_num_threads()} threads"
    )
    for name in ("ours", other):
        say(f"{name}, s", f"{median(found[name]):.2f} ({min(found[name]):.2f} to {max(found[name]):.2f})")
    say("peak memory, GB", f"{memory():.2f}")


BENCHES: dict[str, Callable[[Path], None]] = {"loop": bench_loop, "store": bench_store}


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    return bench_data.run("bench_probe", BENCHES, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
