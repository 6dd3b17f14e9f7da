"""The files for clusters: a SLURM task that is preempted goes on to the same weights; SkyPilot's are well formed."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from domix.cli.sweeps import cluster
from domix.cli.sweeps.plan import Parts, Sweep
from domix.cli.sweeps.workspaces import Study
from domix.project.common import original_root
from domix.runtime.errors import ParameterError
from domix.runtime.settings import replace
from domix.settings.load import load
from domix.settings.params import Params
from tests.processes import wait_for
from tests.tiny import REPOSITORY, write_project

LONG: dict[str, Any] = {"samples": 8 * 150, "save_every_s": 1000, "log_every": 5, "checkpoints": [1]}
MODEL = Path("artifacts/models/clip/tiny-s0")
STAGE = """stages:
  train:
    matrix: {mixture: "${mixtures}", seed: "${seeds}"}
    cmd: python -m stages.train ${item}
    deps: [artifacts/mixtures, artifacts/captions, artifacts/shards]
    params: [model, train]
    outs: ["artifacts/models/clip/${item.mixture}-s${item.seed}"]
"""
BIN = Path(sys.executable).parent
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(REPOSITORY / "src"),
    "OMP_NUM_THREADS": "1",
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_OFFLINE": "1",
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
}
TASK = {  # what SLURM tells the first task of an array
    "SLURM_ARRAY_JOB_ID": "70",
    "SLURM_ARRAY_TASK_ID": "0",
    "SLURM_JOB_ID": "70",
    "SLURM_JOB_NAME": "domix-default",
    "SLURM_NTASKS": "1",
    "SLURM_NTASKS_PER_NODE": "1",
    "SLURM_NNODES": "1",
    "SLURM_NODELIST": "127.0.0.1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_CPUS_PER_TASK": "1",
}


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with one training, its SLURM file, and stand-ins for SLURM's programs."""
    root = tmp_path_factory.mktemp("cluster") / "project"
    root.mkdir()
    write_project(root, **LONG)
    tree = YAML(typ="safe", pure=True).load(root / "params.yaml")
    YAML(typ="safe", pure=True).dump(tree | {"mixtures": ["tiny"], "seeds": [0]}, root / "params.yaml")
    (root / "dvc.yaml").write_text(STAGE)
    subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=root, env=ENVIRONMENT, check=True)
    program(root / "fake/srun", 'SLURM_STEP_ID=0 exec "$@"')
    program(root / "fake/scontrol", 'echo "$@" >> requeued')
    options = ("--write", "slurm", "jobs", "--time", "00:10:00", "--cpus", "1")
    command = (sys.executable, "-m", "domix", "sweep", *options)
    done = subprocess.run(command, cwd=root, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == str(root / "jobs/sweep.sbatch")
    return root


def task(root: Path) -> subprocess.Popen[str]:
    environment = ENVIRONMENT | TASK | {"PATH": f"{root / 'fake'}{os.pathsep}{ENVIRONMENT['PATH']}"}
    command = ("bash", str(root / "jobs/sweep.sbatch"))
    return subprocess.Popen(
        command, cwd=root, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.slow
def test_a_preempted_task_saves_asks_for_the_queue_and_goes_on_to_the_same_weights(project: Path) -> None:
    first = task(project)
    wait_for(lambda: list(project.glob(".cache/resume/*/checkpoints/*.safetensors")), first)
    first.send_signal(signal.SIGUSR1)
    said, _ = first.communicate(timeout=240)
    assert first.returncode == 75, said
    assert (project / "requeued").read_text() == "requeue 70_0\n"
    assert list(project.glob(".cache/resume/*/step_*"))
    assert not (project / MODEL).exists()

    second = task(project)
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert "going on after step" in said
    weights = (project / MODEL / "model.safetensors").read_bytes()

    third = task(project)
    said, _ = third.communicate(timeout=60)
    assert third.returncode == 0
    assert "train@tiny-0 is up to date" in said
    assert (project / "requeued").read_text() == "requeue 70_0\n"

    stage = (sys.executable, "-m", "stages.train", "tiny", "0")  # what `dvc repro` runs, never stopped
    subprocess.run(stage, cwd=project, env=ENVIRONMENT, check=True, capture_output=True)
    assert (project / MODEL / "model.safetensors").read_bytes() == weights


def test_a_task_that_cannot_succeed_is_not_queued_again(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    program(tmp_path / "fake/srun", "echo 'train: no GPU' >&2; exit 2")
    program(tmp_path / "fake/scontrol", "touch requeued")
    program(tmp_path / "fake/dvc", "exit 1")  # nothing is up to date
    root.mkdir()
    script = (project / "jobs/sweep.sbatch").read_text().replace(str(project), str(root))
    (tmp_path / "job").write_text(script.replace(f"export PATH={BIN}:$PATH", ""))
    environment = os.environ | TASK | {"PATH": f"{tmp_path / 'fake'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", tmp_path / "job"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (2, "train: no GPU")
    assert not (root / "requeued").exists()


def test_the_slurm_file_asks_for_what_a_training_needs(project: Path) -> None:
    text = (project / "jobs/sweep.sbatch").read_text()
    for line in ("--array=0-0", "--nodes=1", "--ntasks-per-node=1", "--time=00:10:00", "--signal=B:USR1@120"):
        assert f"#SBATCH {line}\n" in text
    assert "--gpus" not in text  # trainer.accelerator is cpu
    subprocess.run(["bash", "-n", project / "jobs/sweep.sbatch"], check=True)


def test_tasks_run_the_commands_of_dvc_yaml(project: Path) -> None:
    """The file names the stage's command itself: srun must start every process of a training."""
    stages = YAML(typ="safe").load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    for name in ("train", "train_supervised"):
        assert stages[name]["cmd"] == f"python -m stages.{name} ${{item}}"
    assert 'srun python -m "stages.$stage" "$mixture" "$seed" &' in (project / "jobs/sweep.sbatch").read_text()


@pytest.fixture
def params() -> Params:
    return load((REPOSITORY / "params.yaml").read_text())


OPTIONS = cluster.Cluster("24:00:00", 16, "H100", "domix-states")


def make_sweep(root: Path) -> Sweep:
    studies = tuple(Study(domain, ("natural-only", "cg-high+0.1"), (0, 1)) for domain in ("clipart", "sketch"))
    parts = Parts({"train": ["natural-only", "cg-high+0.1"], "train_supervised": []})
    return Sweep(name="s", root=root, studies=studies, until="report", in_place=False, pull=False, parts=parts)


def test_an_array_trains_each_mixture_once_on_the_gpus_it_needs(tmp_path: Path, params: Params) -> None:
    sweep = make_sweep(tmp_path)
    for entry in sweep.of("train"):
        path = entry.folder / f"artifacts/mixtures/{entry.mixture}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("natural" if entry.mixture == "natural-only" else entry.test_domain)
    trainer = replace(params.trainer, devices=4, nodes=2)
    (script,) = cluster.write_slurm(sweep, trainer, tmp_path / "jobs", OPTIONS)
    text = script.read_text()
    for line in ("--array=0-5", "--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--cpus-per-task=16"):
        assert f"#SBATCH {line}\n" in text
    listed = [line.strip().strip("'").split("\t")[1:] for line in text.splitlines() if "\ttrain\t" in line]
    assert listed[3] == ["train@cg-high+0.1-1", "train", "cg-high+0.1", "1"]
    assert sum("natural-only" in run[0] for run in listed) == 2  # the second domain's are the first's
    subprocess.run(["bash", "-n", script], check=True)


def test_the_sky_job_is_well_formed_and_runs_the_sweep_of_one_training(tmp_path: Path, params: Params) -> None:
    job, launch = cluster.write_sky(make_sweep(tmp_path), replace(params.trainer, devices=2), tmp_path, OPTIONS)
    tree = YAML(typ="safe").load(job.read_text())
    assert tree["resources"]["accelerators"] == "H100:2"
    assert tree["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    assert tree["envs"] | {"DVC_NO_ANALYTICS": "", "HF_HUB_OFFLINE": ""} == {
        "TEST_DOMAIN": "clipart",
        "MIXTURE": "natural-only",
        "SEED": "0",
        "DVC_NO_ANALYTICS": "",
        "HF_HUB_OFFLINE": "",
    }
    for script in (tree["setup"], tree["run"], launch.read_text()):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (train,) = [line for line in tree["run"].splitlines() if "domix sweep" in line]
    words = shlex.split(train.replace("$", ""))
    assert words[2:8] == ["--test-domains", "TEST_DOMAIN", "--mixtures", "MIXTURE", "--seeds", "SEED"]
    runs = launch.read_text().split("END'\n")[1].split("\nEND")[0].splitlines()
    assert len(runs) == 8
    assert runs[3] == "clipart\tcg-high+0.1\t1"


def test_a_launch_starts_a_job_for_each_run(tmp_path: Path, params: Params) -> None:
    _, launch = cluster.write_sky(make_sweep(tmp_path), params.trainer, tmp_path, OPTIONS)
    program(tmp_path / "fake/sky", 'printf "%s " "$@" >> asked; echo >> asked')
    environment = os.environ | {"PATH": f"{tmp_path / 'fake'}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", launch], env=environment, check=True)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 8
    job = "--name domix-sketch-cg-high-0-1-1 --env TEST_DOMAIN=sketch --env MIXTURE=cg-high+0.1 --env SEED=1"
    assert job in asked[7]


ODD = 'cg-low+Real "World" & $HOME\'s; `id` | x'


def test_odd_names_reach_every_program_whole(tmp_path: Path, params: Params) -> None:
    """A name of blanks, quotes, dollars and bars, in a folder of such a name."""
    root = tmp_path / "it's $here & there"
    studies = (Study("Real World", (ODD,), (0,)),)
    parts = Parts({"train": [ODD], "train_supervised": []})
    sweep = Sweep("s", root, studies, until="report", in_place=False, pull=False, parts=parts)
    path = sweep.of("train")[0].folder / f"artifacts/mixtures/{ODD}.parquet"
    path.parent.mkdir(parents=True)
    path.write_text("x")
    (script,) = cluster.write_slurm(sweep, params.trainer, root / "jobs", OPTIONS)
    program(root / "fake/dvc", "exit 1")
    program(root / "fake/srun", "shift; printf '%s\\n' \"$@\"; exit 2")
    environment = os.environ | TASK
    text = script.read_text().replace("export PATH=", f"PATH={shlex.quote(str(root / 'fake'))}:$PATH # ")
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["-m", "stages.train", ODD, "0"], done.stderr
    shutil.rmtree(sweep.folder / "Real World")
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, text=True)
    assert shlex.join(["--mixtures", csv_of(ODD)]) in done.stderr
    job, launch = cluster.write_sky(sweep, params.trainer, tmp_path, OPTIONS)
    tree = YAML(typ="safe").load(job.read_text())
    assert (tree["workdir"], tree["envs"]["MIXTURE"]) == (str(original_root()), ODD)
    program(tmp_path / "fake/sky", 'printf "%s\\n" "$@"')
    environment = os.environ | {"PATH": f"{tmp_path / 'fake'}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", launch], env=environment, check=True, capture_output=True, text=True)
    assert f"MIXTURE={ODD}" in done.stdout.splitlines()
    assert "TEST_DOMAIN=Real World" in done.stdout.splitlines()


def csv_of(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def test_jobs_of_several_machines_are_slurms(tmp_path: Path, params: Params) -> None:
    with pytest.raises(ParameterError, match="a job has one machine"):
        cluster.write_sky(make_sweep(tmp_path), replace(params.trainer, nodes=2), tmp_path, OPTIONS)
