"""`domix plan`: what the trainings of params.yaml will take, before they start.

Operations are counted, not measured: domix.train.cost.work. Hours suppose that the rate holds all the time, that
several devices do not hinder each other, and that images are at hand as fast as they are trained on; they leave out
what comes before and after (decoding into memory, compiling, embedding, evaluation). Sizes of mixtures are those that
`dvc repro mixtures` has written, or they are worked out from the packed sources.
"""

from __future__ import annotations

import csv
import io
import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from domix.cli.probe import probe
from domix.data.loading.images import Images
from domix.data.mixtures.composition import compose
from domix.data.mixtures.labels import Labels
from domix.data.store.texts import CAPTIONS
from domix.model import clip
from domix.model.classifier import load_encoder
from domix.project.common import ARTIFACTS
from domix.runtime.errors import DataError, ParameterError, passing
from domix.runtime.files import read_json, read_text
from domix.runtime.settings import replace
from domix.settings.params import Params
from domix.train.clip_module import ClipTask
from domix.train.cost import throughput
from domix.train.cost.throughput import Cost
from domix.train.cost.work import Work, clip_work, count, training_bytes, weight_bytes
from domix.train.job import Job
from domix.train.machine import choose
from domix.train.settings import Recipe
from domix.train.supervised_module import SupervisedTask

IMAGENET = 1000  # classes that a classifier has besides, where mixtures contain a base corpus
PETA = 1e15
PRECISIONS = {"auto": "bf16-mixed", "bf16": "bf16-mixed", "fp16": "16-mixed", "32": "32-true"}  # of a GPU elsewhere
NAMES = ("test domain", "mixture", "runs", "samples", "steps", "PFLOP", "time")
COLUMNS = "  {:<12}{:<23}{:>5}{:>12}{:>8}{:>9}{:>9}{:>10}{:>9}"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says."""

    rate: float | None = None  # samples a second and device
    log: Path | None = None  # rates of an earlier training
    seconds: float = 5.0  # to measure here, without either
    test_domains: tuple[str, ...] = ()  # none: that of params.yaml

    def check(self) -> None:
        """Check the ranges.

        Raises:
            ParameterError: a number is out of range, or two ways to know the rate are given.
        """
        for name, value in (("rate", self.rate), ("seconds", self.seconds)):
            if value is not None and value <= 0:
                raise ParameterError(f"--{name} must be positive, not {value:g}")
        if self.rate is not None and self.log is not None:
            raise ParameterError("--rate and --log exclude each other: give one of them")


@dataclass(frozen=True)
class Sizes:
    """What the mixtures hold."""

    samples: dict[tuple[str, str], int]  # by test domain and mixture
    classes: int


@dataclass(frozen=True)
class Kind:
    """Trainings of one kind, which differ in mixture and seed only."""

    title: str
    task: ClipTask | SupervisedTask
    recipe: Recipe
    mixtures: list[str]
    model: torch.nn.Module  # without contents
    work: Work
    moments: int  # numbers that the optimiser keeps of each weight


@dataclass(frozen=True)
class Line:
    """The trainings on one mixture, one a seed."""

    test_domain: str
    mixture: str
    runs: int
    samples: int  # each
    steps: int  # each
    flop: float  # each
    cost: Cost  # each
    nbytes: int  # of disk, each


# -- what is to be trained


def sizes(params: Params, domains: Sequence[str]) -> Sizes:
    """Return the sizes of the mixtures for each test domain.

    Raises:
        DomixError: the sources are not packed yet, or there is no such domain.
    """
    path = ARTIFACTS / "mixtures" / "summary.json"
    written: dict[str, Any] = read_json(path) if path.exists() else {"test_domain": None, "mixtures": [], "classes": []}
    known = {mixture["name"]: mixture["samples"] for mixture in written["mixtures"]}
    found: dict[tuple[str, str], int] = {}
    classes = len(written["classes"])
    for domain in domains:
        if domain == written["test_domain"] and set(params.mixtures) <= known.keys():
            found |= {(domain, name): known[name] for name in params.mixtures}
            continue
        from domix.project import mixtures  # here: few plans work them out, and it takes a second

        study = mixtures.load(replace(params, test_domain=domain))
        classes = len(study.cells.classes)
        for mixture in mixtures.build(params, study, mixtures.parse(params, study.split, params.mixtures)):
            found[domain, mixture.name] = compose(mixture, study.cells).samples
    return Sizes(found, classes)


def kinds(params: Params, classes: int, captions: Sequence[str]) -> list[Kind]:
    """Return the kinds of trainings that the parameters ask for."""
    checkpointing = params.trainer.grad_checkpointing
    with passing(name="model.name", config="model.name"):
        config = clip.load_config(params.model.name)
        task = ClipTask(
            name=params.model.name,
            config=config,
            recipe=params.train,
            captions=captions,
            grad_checkpointing=checkpointing,
        )
        with torch.device("meta"):
            model = task.build(0)
        context = task.targets(model).shape[1]
    image, text = clip_work(model, size=task.size, context=context)
    both = (image + text).accumulated(params.train.accumulate)
    title = (
        f"CLIP {task.name}: {_giga(image.forward)} GFLOP forward for an image,"
        f" {_giga(text.forward)} for a caption of {context} tokens"
    )
    made = [Kind(title, task, params.train, params.mixtures, model, both, 2)]
    if params.supervised.mixtures:
        made.append(_supervised(params, classes, len(captions)))
    return made


def _supervised(params: Params, classes: int, samples: int) -> Kind:
    outputs = classes + (IMAGENET if params.base else 0)
    recipe = params.supervised
    names = tuple(str(number) for number in range(outputs))
    with passing(name="supervised.encoder", encoder="supervised.encoder", model_name="model.name", config="model.name"):
        task = SupervisedTask(
            name=recipe.encoder,
            encoder=load_encoder(recipe.encoder, params.model.name),
            recipe=recipe,
            labels=Labels(names, 0, torch.zeros(samples, dtype=torch.long).numpy()),
            grad_checkpointing=params.trainer.grad_checkpointing,
        )
        with torch.device("meta"):
            model = task.build(0)
    work = count(model, lambda whole, images: whole(images), torch.empty(1, 3, task.size, task.size))
    title = f"classifiers {task.name}: {_giga(work.forward)} GFLOP forward for an image, {outputs} outputs"
    return Kind(title, task, recipe, recipe.mixtures, model, work, 1)


def captions_of(params: Params, least: int) -> list[str]:
    """Return captions of the study, at least so many; where none are made yet, a caption as long as the model reads."""
    texts: list[str] = []
    for source in [params.sources[0], *params.base]:
        path = ARTIFACTS / "captions" / f"{source}.parquet"
        if path.exists():
            texts += CAPTIONS.read(path, ["standard"])["standard"].drop_duplicates().tolist()
    texts = texts or ["a " * 100]
    return list(itertools.islice(itertools.cycle(texts), max(least, len(texts))))


def lines(params: Params, kind: Kind, found: Sizes, domains: Sequence[str], rate: float) -> list[Line]:
    """Return what the trainings of a kind take at `rate` samples a second and device.

    Raises:
        ParameterError: a mixture is smaller than a batch, or training ends before a checkpoint that is asked for.
    """
    made = []
    for domain, mixture in itertools.product(domains, kind.mixtures):
        images = Images(torch.zeros((found.samples[domain, mixture], 2), dtype=torch.long))  # of no size
        job = Job(task=kind.task, recipe=kind.recipe, trainer=params.trainer, seed=0, images=images)
        samples = job.total * kind.recipe.batch
        made.append(
            Line(
                domain,
                mixture,
                len(params.seeds),
                samples,
                job.total,
                samples * kind.work.step,
                throughput.predict(samples, samples_per_s=rate, devices=params.trainer.processes),
                weight_bytes(kind.model) * (1 + len(job.checkpoints)),
            )
        )
    return made


# -- how fast


def rate_of_log(path: Path) -> float:
    """Return the samples a second and device of an earlier training.

    Raises:
        DataError: there is no such file, or it does not hold the rates of a training.
    """
    try:
        file = io.StringIO(read_text(path))
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    except (ValueError, TypeError) as error:  # a DataError is a ValueError
        raise DataError(
            f"{path} cannot be read as a training's rates ({error}): name a file of .cache/rates"
        ) from error
    return throughput.measure(rows).samples_per_s / rows[0].get("devices", 1)


def rates(params: Params, made: list[Kind], asked: Asked) -> list[tuple[float, str]]:
    """Return each kind's samples a second and device, and where that is known from."""
    if asked.log is not None:
        rate, told = rate_of_log(asked.log), f"as in {asked.log}"
    elif asked.rate is not None:
        rate, told = asked.rate, "as given"
    else:
        side = params.pack.size or made[0].task.size
        found = []
        for kind in made:
            result = probe(kind.task, kind.recipe, params.trainer, kind.work, side=side, seconds=asked.seconds)
            found.append((result.samples_per_s, f"measured here with batch {result.batch}"))
        return found
    first = made[0].work.step
    others = [(rate * first / kind.work.step, "the same operations a second as above") for kind in made[1:]]
    return [(rate, told), *others]


# -- the table


def table(params: Params, made: list[Kind], found: Sizes, domains: Sequence[str], asked: Asked) -> str:
    """Return the plan as text of at most 100 columns."""
    machine = choose(params.trainer) if asked.rate is None and asked.log is None else None
    unit = "CPU" if machine is not None and machine.accelerator == "cpu" else "GPU"
    text = [f"{len(made[0].mixtures)} mixtures, {len(params.seeds)} seed(s), test domain(s) {', '.join(domains)}"]
    every: list[Line] = []
    for kind, (rate, told) in zip(made, rates(params, made, asked), strict=True):
        planned = lines(params, kind, found, domains, rate)
        every += planned
        text += ["", *_head(params, kind, rate, told, machine is not None)]
        text.append(
            _row("test domain", "mixture", "runs", "samples", "steps", "PFLOP", "time", f"{unit}-hours", "disk")
        )
        text += [_line(line) for line in planned]
    total = sum(line.runs for line in every)
    hours = sum(line.runs * line.cost.device_hours for line in every)
    flop = sum(line.runs * line.flop for line in every) / PETA
    disk = sum(line.runs * line.nbytes for line in every)
    each = [line.cost for line in every for _ in range(line.runs)]
    alone = throughput.sweep_seconds(each, 1)
    text += ["", _row("all", "", total, "", "", f"{flop:,.3g}", _time(alone), _number(hours), _bytes(disk))]
    slots = (torch.cuda.device_count() if unit == "GPU" else 0) // params.trainer.devices
    if slots > 1:
        text.append(f"  {slots} at once on this machine's GPUs: {_time(throughput.sweep_seconds(each, slots))}")
    states = (1 + made[0].moments) * weight_bytes(made[0].model) * params.trainer.keep_states
    text += [
        "  time, PFLOP, disk: of one run; in the last line of all runs, one after another",
        f"  besides, each run keeps up to {_bytes(states)} of states to resume from while it trains",
    ]
    return "\n".join(text)


def _head(params: Params, kind: Kind, rate: float, told: str, here: bool) -> list[str]:
    trainer, recipe = params.trainer, kind.recipe
    devices = trainer.processes
    part = recipe.batch // devices // recipe.accumulate
    machine = choose(replace(trainer, devices=1, nodes=1)) if here else None
    precision = (
        machine.precision if machine else {"fp16": "16-mixed", "32": "32-true"}.get(trainer.precision, "bf16-mixed")
    )
    memory = training_bytes(kind.model, kind.work, part=part, precision=precision, moments=kind.moments)
    used = [f"  {_use(params, kind, rate, precision)}"] if machine else []
    return [
        kind.title,
        f"  batch {recipe.batch} on {devices} device(s), {part} at once, in about {_bytes(memory)} of memory each",
        f"  {_number(rate)} samples/s a device, {told}",
        *used,
    ]


def _use(params: Params, kind: Kind, rate: float, precision: str) -> str:
    """Tell how much of the device that is rated here the training uses."""
    device = torch.device("cuda" if choose(params.trainer).accelerator == "gpu" else "cpu")
    name = throughput.device_name(device)
    peak = throughput.peak_flops(name, precision, tf32=params.trainer.tf32)
    source = "its peak" if peak else "large matrix products'"
    peak = peak or throughput.matmul_flops(device, precision, seconds=0.5)
    share = throughput.utilisation(rate, kind.work.useful, peak)
    return f"on {name}: {share:.0%} of {source} {peak / 1e12:,.3g} TFLOP/s"


def _row(*cells: object) -> str:
    return COLUMNS.format(*cells).rstrip()


def _line(line: Line) -> str:
    return _row(
        line.test_domain,
        line.mixture,
        line.runs,
        f"{line.samples:,}",
        f"{line.steps:,}",
        f"{line.flop / PETA:,.3g}",
        _time(line.cost.seconds),
        _number(line.runs * line.cost.device_hours),
        _bytes(line.nbytes),
    )


def _giga(flop: float) -> str:
    return f"{flop / 1e9:.3g}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _time(seconds: float) -> str:
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 72)):
        if seconds < most * length:
            return f"{seconds / length:.{0 if unit == 's' else 1}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def _bytes(count_: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if count_ >= size:
            return f"{count_ / size:.1f} {unit}"
    return f"{count_ / 1e6:.1f} MB"


def main(params: Params, asked: Asked) -> None:
    """Print the plan.

    Raises:
        ParameterError: a number is out of range, or two ways to know the rate are given.
        DomixError: the sources are not packed yet, or a training's rates cannot be read.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    asked.check()
    domains = list(asked.test_domains) or [params.test_domain]
    found = sizes(params, domains)
    batch = max(params.train.batch, params.supervised.batch)
    print(table(params, kinds(params, found.classes, captions_of(params, batch)), found, domains, asked))
