"""One measurement of training in a process of its own, which tools.bench_train starts with what is asked for as JSON.

So memory, threads, caches and compiled code of one measurement are not another's. The last line on stdout is the result
as JSON. What is asked for: see `Spec`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import psutil
import torch

from domix.cli import export
from domix.data.loading.images import Images
from domix.data.loading.loader import augmented
from domix.model import clip
from domix.model.loss import contrastive_loss
from domix.project.common import load_params
from domix.project.training import open_run, quiet
from domix.runtime.settings import replace
from domix.runtime.tracking.tracker import NullTracker
from domix.settings.params import Params
from domix.train.cost.throughput import measure, now, peak_memory
from domix.train.cost.work import clip_work
from domix.train.fit import fit, set_up
from domix.train.job import Job
from domix.train.machine import choose
from stages.train import job_of
from tools import open_clip_loop

DTYPES = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
EPOCHS = 6  # over which memory must not grow; the first is left out
RESIDENT = 2**30  # bytes of images that are decoded to see what memory they take


@dataclass(frozen=True)
class Spec:
    """What to measure.

    Attributes:
        kind: fit: our training; bare: the same steps on one batch in memory; open_clip: its trainer; growth: memory
            over epochs; resident: memory of decoded images; work: what a sample costs.
        root: folder with params.yaml and artifacts.
        mixture: whose samples are trained on.
        batch: samples a step.
        warm: steps that do not count.
        steps: steps that do.
        changes: parameters other than those of params.yaml, `section.key` -> value.
        workers: of open_clip's loader.
        precision: open_clip's word.
    """

    kind: Literal["fit", "bare", "open_clip", "growth", "resident", "work"]
    root: str
    mixture: str
    batch: int
    warm: int
    steps: int
    changes: dict[str, Any] = field(default_factory=dict)
    workers: int = 0
    precision: str = "fp32"


def changed(params: Params, changes: Mapping[str, Any]) -> Params:
    """Return parameters with some changed, `section.key` -> value; all at once, as some make sense together only."""
    sections: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        section, key = path.split(".")
        sections.setdefault(section, {})[key] = value
    return replace(params, **{name: replace(getattr(params, name), **mine) for name, mine in sections.items()})


def make_job(spec: Spec, **changes: Any) -> Job:
    """Return a training of so many steps on one device; the first row of its log ends with the steps that are warm."""
    asked: dict[str, Any] = {
        "train.samples": (spec.warm + spec.steps) * spec.batch,
        "train.epochs": None,
        "train.checkpoints": [],
    }
    asked |= {"train.batch": spec.batch, "trainer.log_every": spec.warm}
    asked |= {"trainer.devices": 1, "trainer.nodes": 1, "trainer.strategy": "auto"}
    params = changed(load_params(), asked | spec.changes | changes)
    return job_of(params, open_run(spec.mixture, streamed=params.trainer.streamed), 0)


def run_fit(spec: Spec) -> dict[str, float]:
    """Train as the stage does."""
    rows: list[dict[str, float]] = []
    _train(make_job(spec), lambda row: rows.append(row))
    found = measure(rows)
    return {"samples_per_s": found.samples_per_s, "data_wait": found.data_wait}


class _Listener(NullTracker):
    """Hands the log's rows on."""

    def __init__(self, tell: Callable[[dict[str, float]], None]) -> None:
        self._tell = tell

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        self._tell({"step": step, **values})


def _train(job: Job, tell: Callable[[dict[str, float]], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out, resume = Path(folder) / "model", Path(folder) / "resume"
        fit(job, out=out, resume=resume, open_tracker=lambda: _Listener(tell), about={}, progress=False)


def run_bare(spec: Spec) -> dict[str, float]:
    """Compute steps on one augmented batch that lies in memory, in a plain loop: the most that a training could do."""
    job = make_job(spec)
    machine = choose(job.trainer)
    set_up(machine, job)
    torch.backends.cudnn.benchmark = not job.trainer.deterministic
    device = torch.device("cuda" if machine.accelerator == "gpu" else "cpu")
    model: Any = job.task.build(job.seed).to(device)
    optimizer = job.task.module(job, model).make_optimizer()
    batch = job.batches(job.task.targets(model), start=0).make(0)
    images, tokens = augmented(batch, job.task.size).to(device), batch.targets.to(device)
    if job.trainer.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    see, read = model.encode_image, partial(clip.encode_text, model)
    if job.trainer.compile:
        see, read = torch.compile(see), torch.compile(read)
    dtype = DTYPES[machine.precision]
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    started = 0.0
    for step in range(spec.warm + spec.steps):
        if step == spec.warm:
            started = now(device)
        with nullcontext() if dtype is None else torch.autocast(device.type, dtype):
            image, text = see(images), read(tokens)
        loss = contrastive_loss(image, text, model.logit_scale.exp(), model.logit_bias)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return {"samples_per_s": spec.steps * spec.batch / (now(device) - started), "data_wait": 0.0}


def run_open_clip(spec: Spec) -> dict[str, float]:
    """Train with open_clip's own trainer on the exported mixture."""
    folder = Path("build") / "bench" / spec.mixture
    if not (folder / "train.tsv").exists():
        export.main(export.Asked(mixture=spec.mixture, format="tsv", out=folder, force=True))
    model = changed(load_params(), spec.changes).model.name
    asked = open_clip_loop.Asked(
        model, folder / "train.tsv", spec.batch, spec.workers, spec.precision, spec.warm, spec.steps
    )
    return open_clip_loop.measure(asked)


def run_growth(spec: Spec) -> dict[str, float]:
    """Train for some epochs; return by how many MiB an epoch the memory grows after the first."""
    job = make_job(spec, **{"train.samples": None, "train.epochs": EPOCHS})
    process, taken = psutil.Process(), []
    _train(job, lambda row: taken.append((row["epoch"], process.memory_info().rss / 2**20)))
    second, last = (mean(mib for epoch, mib in taken if start < epoch <= start + 1) for start in (1, EPOCHS - 1))
    return {"grows_mib_an_epoch": (last - second) / (EPOCHS - 2), "host_mib": last}


def run_resident(spec: Spec) -> dict[str, float]:
    """Decode images into memory; return what they take above their own bytes, at the most."""
    opened = open_run(spec.mixture)
    sizes = torch.tensor(opened.samples[["height", "width"]].to_numpy(dtype="int64").copy())
    names, rows = opened.samples["key"].tolist(), opened.samples["row"].tolist()
    reader = opened.readers[opened.samples["source"].iloc[0]]
    count = int(RESIDENT // (sizes.prod(dim=1).double().mean().item() * 3))
    places = torch.arange(count) % len(names)

    def decode(chosen: torch.Tensor) -> Images:
        asked = chosen.tolist()
        texts = [names[place] for place in asked]
        return Images.decode(lambda i: reader.read(rows[asked[i]]), texts, sizes[chosen], threads=os.cpu_count() or 1)

    decode(places[:64])  # what libraries take for themselves
    before = psutil.Process().memory_info().rss
    images = decode(places)
    return {"images_mib": images.nbytes / 2**20, "overhead": (peak_memory().host - before) / images.nbytes - 1}


def run_work(spec: Spec) -> dict[str, float]:
    """Count what a sample costs, in FLOP."""
    job = make_job(spec)
    model: Any = job.task.build(0)
    image, text = clip_work(model, size=job.task.size, context=job.task.targets(model).shape[1])
    return {"useful": (image + text).useful}


def main(text: str) -> None:
    """Measure, and print the result."""
    quiet()
    logging.getLogger("torch").setLevel(logging.ERROR)
    spec = Spec(**json.loads(text))
    os.chdir(spec.root)
    run = {
        "fit": run_fit,
        "bare": run_bare,
        "open_clip": run_open_clip,
        "growth": run_growth,
        "resident": run_resident,
        "work": run_work,
    }[spec.kind]
    found = run(spec)
    memory = peak_memory()
    print(json.dumps(found | {"host": memory.host, "gpu": memory.gpu}))


if __name__ == "__main__":
    main(sys.argv[1])
