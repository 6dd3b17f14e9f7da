"""Train the runs of one or several studies side by side: `python -m stages.sweep --test-domains clipart,sketch`.

For each test domain a copy of the repository (stages/sweeps/workspaces.py), in which

1. `dvc repro mixtures captions` makes what the trainings share, one copy after the other;
2. one `dvc repro --single-item train@<mixture>-<seed>` a slot trains, on as many GPUs or cores as a slot has;
3. `dvc repro` does the rest, again one copy after the other.

A training that died is started again and goes on where it was; one that failed does not stop the others. Ctrl-C and
SIGTERM end all in good order; the same command goes on. What was asked and what became of it: .cache/sweep/<name>/
sweep.json. The study of params.yaml alone runs in the repository itself. Beyond one machine: docs/scale-out.md.
"""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from domix.config import Params
from domix.runtime.errors import DomixError, Interrupted, ParameterError
from domix.training_params import Trainer
from stages.common import original_root, run
from stages.sweeps.cluster import Cluster, write_sky, write_slurm
from stages.sweeps.conductor import Conductor
from stages.sweeps.plan import Sweep, kinds_of
from stages.sweeps.slots import find_slots
from stages.sweeps.view import View
from stages.sweeps.workspaces import Study

UNTIL = ("mixtures", "train", "report")


def main(params: Params, *arguments: str) -> None:
    """Do what the command line asks."""
    asked = parse(params, list(arguments))
    sweep = plan(params, asked)
    if asked.write:
        write(sweep, params.trainer, asked)
        return
    sweep.slots = find_slots(params.trainer, wanted=asked.slots, per_gpu=asked.per_gpu, environment=os.environ)
    with _alone(sweep), _signals() as signals, View(sweep) as view:
        try:
            Conductor(sweep, view, signals, retries=asked.retries).conduct()
        finally:
            sweep.write(_outcome(sweep, signals))
    view.summary()
    if signals:
        raise Interrupted(f"stopped by {signals[0].name}; the same command goes on from here")
    bad = [entry for entry in sweep.entries if entry.status in ("failed", "skipped")]
    if bad:
        raise DomixError(f"{len(bad)} of {len(sweep.entries)} parts are not done (above); the same command tries again")


def parse(params: Params, arguments: list[str]) -> argparse.Namespace:
    """Read the command line; what is not given is as in params.yaml."""
    parser = argparse.ArgumentParser(prog="python -m stages.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--test-domains", type=_names, help="test domains, with commas between")
    parser.add_argument("--mixtures", type=_names, help="mixtures, with commas between")
    parser.add_argument("--seeds", type=_numbers, help="seeds, with commas between")
    parser.add_argument("--slots", type=_count, help="trainings at a time (default: one a GPU, or for two cores)")
    parser.add_argument("--per-gpu", type=_count, default=1, help="trainings that share a GPU")
    parser.add_argument("--retries", type=int, default=2, help="further attempts for a training that died")
    parser.add_argument("--until", choices=UNTIL, default="report", help="how far to go")
    parser.add_argument("--name", help="the sweep's folder below .cache/sweep; always makes copies")
    parser.add_argument("--pull", action="store_true", help="take what DVC's default remote has of other machines")
    parser.add_argument("--write", nargs=2, metavar=("slurm|sky", "FOLDER"), help="write files for a cluster instead")
    parser.add_argument("--time", default="24:00:00", help="slurm: time limit of a task")
    parser.add_argument("--cpus", type=_count, default=16, help="slurm: cores of each process")
    parser.add_argument("--gpu", default="H100", help="sky: the kind of GPU")
    parser.add_argument("--bucket", default="domix-states", help="sky: the bucket that keeps saved states")
    return parser.parse_args(arguments)


def write(sweep: Sweep, trainer: Trainer, asked: argparse.Namespace) -> None:
    """Write the files for a cluster.

    Raises:
        ParameterError: there is no such kind of cluster.
    """
    kind, folder = asked.write
    writers = {"slurm": write_slurm, "sky": write_sky}
    if kind not in writers:
        raise ParameterError(f"--write knows slurm and sky, not {kind!r}")
    cluster = Cluster(asked.time, asked.cpus, asked.gpu, asked.bucket)
    for path in writers[kind](sweep, trainer, Path(folder).resolve(), cluster):
        print(path)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(number) for number in text.split(",")))


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {count}")
    return count


def plan(params: Params, asked: argparse.Namespace) -> Sweep:
    """Return the sweep that the command line asks for.

    Raises:
        ParameterError: its name is no plain name.
    """
    mixtures = asked.mixtures or tuple(params.mixtures)
    seeds = asked.seeds or tuple(params.seeds)
    studies = tuple(Study(domain, mixtures, seeds) for domain in asked.test_domains or (params.test_domain,))
    own = Study(params.test_domain, tuple(params.mixtures), tuple(params.seeds))
    name = asked.name or "default"
    if Path(name).name != name or name.startswith("."):
        raise ParameterError(f"--name must be a plain folder name, not {name!r}")
    return Sweep(
        name=name,
        root=original_root(),
        studies=studies,
        until=asked.until,
        in_place=studies == (own,) and asked.name is None,
        pull=asked.pull,
        kinds=kinds_of(params, mixtures),
    )


@contextmanager
def _alone(sweep: Sweep) -> Generator[None]:
    """Hold the sweep's lock.

    Raises:
        DomixError: the same sweep is running.
    """
    sweep.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(sweep.folder / "lock", timeout=0):
            yield
    except Timeout:
        raise DomixError(
            f"the sweep {sweep.name!r} is running already: wait for it, or choose another --name"
        ) from None


@contextmanager
def _signals() -> Generator[list[signal.Signals]]:
    """Collect SIGINT, SIGTERM and SIGHUP instead of dying from them."""
    caught: list[signal.Signals] = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    former = {number: signal.signal(number, lambda n, _: caught.append(signal.Signals(n))) for number in numbers}
    try:
        yield caught
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _outcome(sweep: Sweep, signals: Sequence[signal.Signals]) -> str:
    if signals:
        return "stopped"
    return "done" if all(entry.status == "done" for entry in sweep.entries) else "failed"


if __name__ == "__main__":
    run(main, timed=False)
