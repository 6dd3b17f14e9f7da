"""Files with which a cluster runs a sweep's trainings: a SLURM job array, or managed jobs of SkyPilot.

They run the very commands that the sweep runs here: SLURM the stages in the sweep's copies, which must lie on a disk
that all machines share; SkyPilot, on machines that share nothing, a sweep over one training each.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from domix.cli.sweeps.plan import Sweep, twins
from domix.project.common import ARTIFACTS, original_root
from domix.runtime.errors import DomixError, ParameterError
from domix.runtime.files import write_text
from domix.train.settings import Trainer

TEMPLATES = Path(__file__).parent / "templates"
PLACE = re.compile(r"@([A-Z_]+)@")


@dataclass(frozen=True)
class Cluster:
    """What the files say beyond the sweep itself."""

    time: str = "24:00:00"  # a SLURM task may take
    cpus: int = 16  # of each process
    gpu: str = "H100"  # the kind that SkyPilot is asked for
    bucket: str = "domix-states"  # keeps saved states


def write_slurm(sweep: Sweep, trainer: Trainer, folder: Path, cluster: Cluster) -> list[Path]:
    """Write `<folder>/sweep.sbatch`, and return what was written.

    Raises:
        DomixError: the copies or their mixtures are not there yet.
    """
    trainings = sweep.of("train", "train_supervised")
    prepare, finish = _command(sweep, "--until mixtures"), _command(sweep, f"--until {sweep.until}")
    for entry in trainings:
        if not (entry.folder / ARTIFACTS / "mixtures" / f"{entry.mixture}.parquet").exists():
            raise DomixError(f"{entry.folder} has no mixture {entry.mixture!r} yet: run `{prepare}` first")
    later = twins(trainings)  # what follows the array finds them in DVC's run cache
    lines = [
        "\t".join([str(entry.folder), entry.targets[0], entry.kind, str(entry.mixture), str(entry.seed)])
        for entry in trainings
        if entry.name not in later
    ]
    script, logs = folder / "sweep.sbatch", sweep.folder / "logs" / "slurm"
    gpus = "" if trainer.accelerator == "cpu" else f"#SBATCH --gpus-per-node={trainer.devices}\n"
    text = _fill(
        "slurm.sh.in",
        NAME=sweep.name,
        PREPARE=prepare,
        FINISH=finish,
        HINT=shlex.quote(f"is not there; make it: {prepare}"),
        SCRIPT=shlex.quote(str(script)),
        LAST=str(len(lines) - 1),
        NODES=str(trainer.nodes),
        DEVICES=str(trainer.devices),
        GPUS=gpus,
        CPUS=str(cluster.cpus),
        TIME=cluster.time,
        LOGS=shlex.quote(f"{logs}/%A_%a.log"),
        BIN=shlex.quote(str(Path(sys.executable).parent)),
        RUNS="\n".join(f"    {shlex.quote(line)}" for line in lines),
    )
    logs.mkdir(parents=True, exist_ok=True)
    write_text(script, text)
    return [script]


def write_sky(sweep: Sweep, trainer: Trainer, folder: Path, cluster: Cluster) -> list[Path]:
    """Write `<folder>/sky.yaml` and `launch.sh`, and return what was written.

    Raises:
        ParameterError: a training needs several machines, which each of these jobs is not made for.
    """
    if trainer.nodes > 1:
        raise ParameterError(f"trainer.nodes is {trainer.nodes}, but a job has one machine: set it to 1")
    runs = [
        (study.test_domain, mixture, str(seed))
        for study in sweep.studies
        for mixture in study.mixtures
        for seed in study.seeds
    ]
    domain, mixture, seed = runs[0]
    train = 'domix sweep --test-domains "$TEST_DOMAIN" --mixtures "$MIXTURE" --seeds "$SEED" --slots 1'
    filled = {
        "NAME": sweep.name,
        "ROOT": json.dumps(str(original_root()), ensure_ascii=False),  # as YAML takes it, too
        "GPU": cluster.gpu,
        "DEVICES": str(trainer.devices),
        "TEST_DOMAIN": json.dumps(domain, ensure_ascii=False),
        "MIXTURE": json.dumps(mixture, ensure_ascii=False),
        "SEED": seed,
        "BUCKET": cluster.bucket,
        "TRAIN": f"{train} --until train --name {sweep.name}",
        "FINISH": _command(sweep, f"--until {sweep.until} --pull"),
        "RUNS": "\n".join("\t".join(run) for run in runs),
    }
    files = {folder / name: _fill(f"{name}.in", **filled) for name in ("sky.yaml", "launch.sh")}
    for path, text in files.items():
        write_text(path, text)
    return list(files)


def _command(sweep: Sweep, *options: str) -> str:
    """Return the command line of a sweep over the same runs."""
    first = sweep.studies[0]
    asked: Mapping[str, tuple[object, ...]] = {
        "--test-domains": tuple(study.test_domain for study in sweep.studies),
        "--mixtures": first.mixtures,
        "--seeds": first.seeds,
    }
    values = [f"{name} {shlex.quote(_listed(values))}" for name, values in asked.items()]
    name = [] if sweep.in_place else [f"--name {sweep.name}"]
    return " ".join(["domix sweep", *([] if sweep.in_place else values), *name, *options])


def _listed(values: Sequence[object]) -> str:
    """Join values with commas, as the command line reads them."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def _fill(template: str, **values: str) -> str:
    """Put values in the places `@NAME@` of a template."""
    text = (TEMPLATES / template).read_text(encoding="utf-8")
    return PLACE.sub(lambda found: values[found[1]], text)
