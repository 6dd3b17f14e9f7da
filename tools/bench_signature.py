"""Measure the signatures of robust models at real size, with generated activations in a store on the disk.

    python -m tools.bench_signature [NAME ...]      all but the last, or some of these

store     kurtosis, outlier features and privileged directions of 50,000 images x 1,024 components, for 1,000 classes
pruning   accuracy at twelve shares pruned of 10,000 images x 512 components x 1,000 classes, beside a head a share
concepts  average precision of 64 of 1,024 units for 1,197 concepts on 63,000 images, beside scikit-learn pair by pair
concepts-full   the same of all 1,024 units, which takes minutes: its peak memory

Each measurement runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from domix.activations.store import ActivationStore, StoreWriter
from domix.encoders.encoder import Activations
from domix.signature.average_precision import concept_ap
from domix.signature.directions import cosines, head_directions, heavy_tail, importance
from domix.signature.kurtosis import activation_kurtosis, summarise
from domix.signature.outliers import outlier_features
from domix.signature.pruning import PERCENT, correct_when_pruned, kept_count, pruned_head, pruning_order
from tools import bench_data
from tools.bench_data import memory, say

IMAGES, WIDTH, CLASSES, BATCH = 50_000, 1024, 1000, 1000
PRUNED, NARROW = 10_000, 512  # images and components of the pruning
FULL = "concepts-full"  # is measured only where it is named
TARGET = 5.0  # seconds, of the store
LABELLED, CONCEPTS, UNITS, PAIRS = 63_000, 1197, 64, 40  # of Broden; units, and pairs by scikit-learn, that are timed


def write_store(folder: Path) -> ActivationStore:
    """Write activations with one outlier feature."""
    generator = torch.Generator().manual_seed(0)
    writer = StoreWriter(folder / "store", ["output"], IMAGES, key={})
    for start in range(0, IMAGES, BATCH):
        values = torch.randn(BATCH, WIDTH, generator=generator)
        values[:, 7] += 20
        writer.update(Activations(values, {"output": values}), np.arange(start, start + BATCH))
    writer.result()
    return ActivationStore(folder / "store")


@contextmanager
def timed(name: str, spent: list[float]) -> Generator[None]:
    """Print how long something took, by the clock and in processor time, and note the first."""
    started, worked = time.perf_counter(), time.process_time()
    yield
    spent.append(time.perf_counter() - started)
    say(f"{name}, s", f"{spent[-1]:.2f} ({time.process_time() - worked:.2f} of processors)")


def bench_store(folder: Path) -> None:
    """Take all three from a store."""
    store = write_store(folder)
    head = np.random.default_rng(1).normal(size=(CLASSES, WIDTH)).astype(np.float32)
    print(f"signatures: {IMAGES:,} images x {WIDTH:,} components in half precision, {CLASSES:,} classes")
    spent: list[float] = []
    before = memory()
    with timed("kurtosis", spent):
        over = summarise(activation_kurtosis(list(store.rows("output"))))
    with timed("outlier features", spent):
        outlying = outlier_features(list(store.rows("output")))
    with timed("directions", spent):
        directions = head_directions(head)
        tail = heavy_tail(importance(directions.singular_values, cosines(directions, list(store.rows("output")))))
    say("together, s", f"{sum(spent):.2f}", f"{TARGET:g}")
    say("peak memory, GB", f"{memory():.2f}", f"of which {before:.2f} made them")
    say("kurtosis, outlier features, max/mean", f"{over.mean:.1f}, {outlying.indices.tolist()}, {tail.max_to_mean:.2f}")


def bench_pruning(folder: Path) -> None:
    """Prune a head to twelve shares at once, and one by one."""
    rng = np.random.default_rng(2)
    head, labels = rng.normal(size=(CLASSES, NARROW)), rng.integers(0, CLASSES, PRUNED)
    activations = (head[labels] + 3 * rng.normal(size=(PRUNED, NARROW))).astype(np.float32)
    directions = head_directions(head)
    order = pruning_order(directions.singular_values)
    print(f"pruning: {len(PERCENT)} shares of {NARROW} directions, {PRUNED:,} images, {CLASSES:,} classes")
    spent: list[float] = []
    with timed("all shares at once", spent):
        correct = correct_when_pruned(directions, activations, labels, order)
    with timed("a head a share", spent):
        kept = [order[NARROW - kept_count(NARROW, share) :] for share in PERCENT]
        each = [(activations @ pruned_head(directions, rows).T).argmax(axis=1) == labels for rows in kept]
    say("times as fast", f"{spent[1] / spent[0]:.1f}")
    say("images judged otherwise", str(int((np.array(each) != correct).sum())), "0")


def bench_concepts(folder: Path, units: int = UNITS) -> None:
    """Rank images for concepts of Broden's number, most of them rare; half the units have ties, as ReLU makes them."""
    rng = np.random.default_rng(3)
    prevalence = np.minimum(rng.gamma(0.3, 0.05, CONCEPTS), 0.5)
    shown = np.concatenate([rng.random((1000, CONCEPTS), np.float32) < prevalence for _ in range(LABELLED // 1000)])
    shown[0] = True
    activations = rng.standard_normal((LABELLED, WIDTH), np.float32)
    activations[:, ::2] = np.maximum(activations[:, ::2], 0)
    print(f"concepts: {units:,} of {WIDTH:,} units, {CONCEPTS:,} concepts, {LABELLED:,} images")
    spent: list[float] = []
    with timed("all pairs of a unit and a concept", spent):
        found = concept_ap(activations[:, :units], shown)
    pairs = list(zip(rng.integers(0, units, PAIRS), rng.integers(0, CONCEPTS, PAIRS), strict=True))
    with timed(f"{PAIRS} pairs by scikit-learn", spent):
        want = [average_precision_score(shown[:, concept], activations[:, unit]) for unit, concept in pairs]
    each, theirs = spent[0] / (units * CONCEPTS), spent[1] / PAIRS
    say("times as fast, a pair", f"{theirs / each:.0f}", "50")
    say(f"all {WIDTH:,} units would take, s", f"{each * WIDTH * CONCEPTS:.0f}")
    say("peak memory, GB", f"{memory():.2f}", "6")
    say("largest difference", f"{max(abs(found[pair] - value) for pair, value in zip(pairs, want, strict=True)):.1e}")


BENCHES: dict[str, Callable[[Path], None]] = {
    "store": bench_store,
    "pruning": bench_pruning,
    "concepts": bench_concepts,
    FULL: partial(bench_concepts, units=WIDTH),
}


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return the exit code."""
    return bench_data.run("bench_signature", BENCHES, arguments or [name for name in BENCHES if name != FULL])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
