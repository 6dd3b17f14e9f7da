"""Measure training: samples a second, the share of time spent waiting for data, peak memory (`make bench`).

    python -m tools.bench [STEPS]      100 steps by default

Trains for some steps with the model, recipe and data of params.yaml, just as the stage does, and compares with the most
that the machine could do: the same steps on one augmented batch that already lies in memory, in a bare loop without
Lightning, loader, log or tracking. The two are measured in turns, the bare loop before and after, because machines are
seldom quiet; the median of each is told. Needs the packed data: `dvc repro mixtures captions`.
"""

from __future__ import annotations

import logging
import resource
import sys
import tempfile
import time
from contextlib import nullcontext
from csv import DictReader
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import torch

from domix.data.loader import augmented
from domix.data.mixtures import read_mixture
from domix.model import clip
from domix.model.loss import contrastive_loss
from domix.runtime.errors import DataError, DomixError
from domix.train.fit import fit, make_trainer
from domix.train.job import Job
from domix.train.machine import choose
from stages.common import ARTIFACTS, load_params
from stages.train import job_of

WARM = 5  # steps, or rows of the log, that are not counted: allocation, autotuning
TARGET = 0.85  # of the bare loop's rate


def load_job(steps: int) -> Job:
    """Return a training of `steps` steps on the largest mixture of params.yaml.

    Raises:
        DataError: the mixtures have not been made yet.
    """
    params = load_params()
    paths = [ARTIFACTS / "mixtures" / f"{name}.parquet" for name in params.mixtures]
    if not all(path.exists() for path in paths):
        raise DataError("the packed data are missing: run dvc repro mixtures captions")
    mixture = max((read_mixture(path) for path in paths), key=lambda mixture: len(mixture.rows))
    recipe = replace(params.train, samples=steps * params.train.batch, epochs=None, checkpoints=[], log_every=WARM)
    return job_of(replace(params, train=recipe), mixture, seed=0)[0]


def bare_rate(job: Job, steps: int) -> float:
    """Return the samples a second of training on one batch in memory, in a plain loop."""
    machine = choose(job.recipe)
    device = torch.device("cuda" if machine.accelerator == "gpu" else "cpu")
    model = clip.build(job.config, seed=job.seed).to(device)
    optimizer = make_module(job, model, None).configure_optimizers()
    batch = make_batches(job, model, start=0, trainer=make_trainer(machine)).make(0)
    pictures = augmented(batch, clip.image_size(job.config)).to(device)
    if job.recipe.channels_last:
        pictures = pictures.contiguous(memory_format=torch.channels_last)
    tokens = batch.tokens.to(device)
    image_tower, text_tower = model.encode_image, partial(clip.encode_text, model)
    if job.recipe.compile:
        image_tower, text_tower = torch.compile(image_tower), torch.compile(text_tower)
    lower = machine.precision == "bf16-mixed"
    started = 0.0
    for step in range(WARM + steps):
        if step == WARM:
            started = now(device)
        with torch.autocast(device.type, torch.bfloat16) if lower else nullcontext():
            image, text = image_tower(pictures), text_tower(tokens)
        loss = contrastive_loss(image, text, model.logit_scale.exp(), model.logit_bias)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return steps * job.recipe.batch / (now(device) - started)


def now(device: torch.device) -> float:
    """Return the time at which the device has done what it was asked to do, in seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def training_rates(job: Job) -> tuple[float, float]:
    """Train as the stage does; return the median samples a second and the median share of time spent on data."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        fit(job, out=out, resume=Path(folder) / "resume", about={}, progress=False)
        rows = list(DictReader((out / "log.csv").read_text(encoding="utf-8").splitlines()))[1:]
    return median(float(row["samples_per_s"]) for row in rows), median(float(row["data_wait"]) for row in rows)


def peak_memory() -> str:
    """Return the most memory that this process has taken, and on the GPU where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024
    text = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB"
    if torch.cuda.is_available():
        text += f", GPU {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB"
    return text


def main() -> int:
    """Measure and print; return the exit code."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    try:
        job = load_job(steps)
        if job.recipe.threads:
            torch.set_num_threads(job.recipe.threads)
        before = bare_rate(job, steps // 2)
        trained, waited = training_rates(job)
        after = bare_rate(job, steps // 2)
    except DomixError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    bare = (before + after) / 2
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    print(f"{job.name}, batch {job.recipe.batch}, {steps} steps; {device}, torch {torch.__version__}")
    print(f"  training        {trained:9.0f} samples/s")
    print(f"  bare loop       {bare:9.0f} samples/s (before {before:.0f}, after {after:.0f})")
    print(f"  share of it     {trained / bare:9.0%} (target {TARGET:.0%})")
    print(f"  data wait       {waited:9.1%} of the time, augmentation included")
    print(f"  peak memory     {peak_memory()}, {job.pictures.nbytes / 2**20:.0f} MiB of it pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
