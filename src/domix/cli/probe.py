"""How fast a training runs here: a few seconds of it, exactly as a stage trains, on images of noise."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from domix.data.loading.images import Images
from domix.project.allocation import stand_alone
from domix.runtime.errors import DataError
from domix.runtime.settings import replace
from domix.runtime.tracking.tracker import NullTracker
from domix.train.cost.throughput import matmul_flops, measure
from domix.train.cost.work import Work
from domix.train.fit import fit
from domix.train.job import Job, Task
from domix.train.machine import Machine, choose
from domix.train.settings import Recipe, Trainer

FOREVER = 10**7  # steps
SMALLEST = 8  # samples a step, on a machine that is too slow for the whole batch
SLOWER = 3  # than large matrix products are small ones and all else: a guess, to choose the batch by


@dataclass(frozen=True)
class Probe:
    """What was measured here.

    Attributes:
        samples_per_s: a device, of the whole recipe.
        batch: samples a step, with which it was measured.
    """

    samples_per_s: float
    batch: int


class _Enough(Exception):
    """Ends a training whose time is up."""


class _Watch(NullTracker):
    """Collects the log's rows, and ends the training so many seconds after the first."""

    def __init__(self, seconds: float) -> None:
        self.rows: list[Mapping[str, float]] = []
        self._seconds, self._end = seconds, float("inf")

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        if not self.rows:
            self._end = time.perf_counter() + self._seconds
        self.rows.append({"step": step, **values})
        if len(self.rows) > 1 and time.perf_counter() > self._end:
            raise _Enough


def noise(count: int, side: int) -> Images:
    """Return images of noise, so many, square."""
    images = Images(torch.full((count, 2), side))
    generator = torch.Generator().manual_seed(0)
    for row in range(count):
        images[row].random_(0, 256, generator=generator)
    return images


def probe(task: Task, recipe: Recipe, trainer: Trainer, work: Work, *, side: int, seconds: float) -> Probe:
    """Train on one device with its share of the batch, or less where that would take too long.

    Args:
        task: with at least as many targets as a batch has samples.
        work: what a sample costs.
        side: of the images, in pixels.

    Raises:
        DataError: not a single step was finished.
    """
    alone = replace(trainer, devices=1, nodes=1, strategy="auto", loader="resident", log_every=1, save_every_s=10**9)
    machine = choose(alone)
    share = recipe.batch // trainer.processes
    batch = share if machine.accelerator == "gpu" else _affordable(share, work, machine, seconds)
    parts = recipe.accumulate if batch == share else 1
    group = recipe.bn_group if batch == share else None
    short = replace(
        recipe,
        samples=FOREVER * batch,
        epochs=None,
        batch=batch,
        accumulate=parts,
        bn_group=group,
        window=None,
        checkpoints=[],
    )
    count = len(task.targets(task.build(0)))
    job = Job(task=task, recipe=short, trainer=alone, seed=0, images=noise(count, side))
    watch = _Watch(seconds)
    try:
        with tempfile.TemporaryDirectory() as folder:
            out, resume = Path(folder) / "model", Path(folder) / "resume"
            stand_alone()
            fit(job, out=out, resume=resume, open_tracker=lambda: watch, about={}, progress=False)
    except _Enough:
        pass
    if not watch.rows:
        raise DataError("the measurement ended before its first step")
    whole, done = work.accumulated(recipe.accumulate).step, work.accumulated(parts).step
    return Probe(measure(watch.rows).samples_per_s * done / whole, batch)


def _affordable(share: int, work: Work, machine: Machine, seconds: float) -> int:
    """Halve a batch until a few steps of it fit into so many seconds."""
    rate = matmul_flops(torch.device("cpu"), machine.precision, seconds=0.3) / SLOWER
    while share > SMALLEST and share * work.step / rate > seconds / 4:
        share //= 2
    return share
