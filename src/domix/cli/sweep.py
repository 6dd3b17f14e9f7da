"""`domix sweep`: the runs of one or several studies, side by side.

For each test domain a copy of the repository (sweeps/workspaces.py), in which

1. `dvc repro mixtures captions` makes what the runs share, one copy after the other;
2. one `dvc repro --single-item train@<mixture>-<seed> embed@<mixture>-<seed>` a slot trains and embeds, on the slot's
   GPUs or cores;
3. one `dvc repro --single-item` a slot evaluates and analyses, once all runs of a study are there;
4. `dvc repro` does the rest, again one copy after the other.

A training that died is started again and goes on where it was; one that failed does not stop the others. Ctrl-C and
SIGTERM end all in good order; the same command goes on. What was asked and what became of it: .cache/sweep/<name>/
sweep.json. The study of params.yaml alone runs in the repository itself. Beyond one machine: docs/scale-out.md.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from domix.cli.pipeline.signals import collected
from domix.cli.sweeps.cluster import Cluster, write_sky, write_slurm
from domix.cli.sweeps.conductor import Conductor
from domix.cli.sweeps.plan import Sweep, parts_of
from domix.cli.sweeps.slots import find_slots
from domix.cli.sweeps.unfinished import write_unfinished
from domix.cli.sweeps.view import View
from domix.cli.sweeps.workspaces import Study
from domix.project.common import original_root
from domix.runtime.errors import DomixError, Interrupted, ParameterError
from domix.runtime.locks import only_one
from domix.runtime.slots import Slot
from domix.settings.params import Params
from domix.train.settings import Trainer

Until = Literal["mixtures", "train", "report"]
HERE = "repro"  # name of the sweep of params.yaml's own study, in the repository itself: also `domix repro`'s


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the command line says; what is empty or None is as in params.yaml, or for the machine to decide."""

    test_domains: tuple[str, ...] = ()
    mixtures: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    slots: int | None = None
    per_gpu: int = 1
    retries: int = 2
    until: Until = "report"
    name: str | None = None
    pull: bool = False
    write: tuple[str, str] | None = None  # kind of cluster and folder
    cluster: Cluster = field(default_factory=Cluster)


def main(params: Params, asked: Asked) -> None:
    """Do what the command line asks.

    Raises:
        DomixError: parts failed, or the same sweep is running.
        Interrupted: a signal came.
    """
    sweep = plan(params, asked)
    if asked.write is not None:
        write(sweep, params.trainer, asked.write, asked.cluster)
        return
    sweep.slots = slots_for(sweep, params.trainer, asked)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    other = "" if sweep.in_place else ", or choose another --name"
    busy = f"the sweep {sweep.name!r} is running already: wait for it{other}"
    with only_one(sweep.folder / "lock", busy), collected() as signals, View(sweep) as view:
        try:
            Conductor(sweep, view, signals, retries=asked.retries).conduct()
        finally:
            sweep.write(_outcome(sweep, signals))
    view.summary()
    if signals:
        raise Interrupted(f"stopped by {signals[0].name}; the same command goes on from here")
    bad = [entry for entry in sweep.entries if entry.status in ("failed", "skipped")]
    if bad and sweep.in_place and sweep.until == "report":
        page = write_unfinished(params, sweep, os.environ)
        view.say(f"the page of what is there: {page}" if page else "too little is there for a page")
    if bad:
        raise DomixError(f"{len(bad)} of {len(sweep.entries)} parts are not done (above); the same command tries again")


def slots_for(sweep: Sweep, trainer: Trainer, asked: Asked) -> tuple[Slot, ...]:
    """Return the slots of this machine for the sweep's trainings.

    Raises:
        ParameterError: it has not what is asked for.
    """
    trainings = len(sweep.of("train", "train_supervised"))
    return find_slots(trainer, wanted=asked.slots, per_gpu=asked.per_gpu, environment=os.environ, trainings=trainings)


def write(sweep: Sweep, trainer: Trainer, wanted: tuple[str, str], cluster: Cluster) -> None:
    """Write the files for a cluster.

    Raises:
        ParameterError: there is no such kind of cluster.
    """
    kind, folder = wanted
    writers = {"slurm": write_slurm, "sky": write_sky}
    if kind not in writers:
        raise ParameterError(f"--write knows slurm and sky, not {kind!r}")
    for path in writers[kind](sweep, trainer, Path(folder).resolve(), cluster):
        print(path)


def plan(params: Params, asked: Asked) -> Sweep:
    """Return the sweep that the command line asks for.

    Raises:
        ParameterError: its name is no plain name.
    """
    mixtures = asked.mixtures or tuple(params.mixtures)
    seeds = asked.seeds or tuple(params.seeds)
    studies = tuple(Study(domain, mixtures, seeds) for domain in asked.test_domains or (params.test_domain,))
    own = Study(params.test_domain, tuple(params.mixtures), tuple(params.seeds))
    in_place = studies == (own,) and asked.name is None
    name = asked.name or (HERE if in_place else "default")
    if re.fullmatch(r"[\w+-][\w.+-]*", name) is None:  # it stands in scripts, too
        raise ParameterError(f"--name must be a plain folder name, not {name!r}: use letters, digits and . _ + -")
    return Sweep(
        name=name,
        root=original_root(),
        studies=studies,
        until=asked.until,
        in_place=in_place,
        pull=asked.pull,
        parts=parts_of(params, mixtures),
    )


def _outcome(sweep: Sweep, signals: Sequence[signal.Signals]) -> str:
    if signals:
        return "stopped"
    return "done" if all(entry.status == "done" for entry in sweep.entries) else "failed"
