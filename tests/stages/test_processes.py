"""Processes started from outside, as torchrun and srun do: one training, written once, stopped by any of them."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from domix.model.checkpoint import load_tensors
from domix.project.allocation import stand_alone
from domix.runtime.errors import ParameterError
from domix.runtime.files import read_json
from domix.train.machine import Machine, check_processes
from tests.closeness import assert_close
from tests.processes import wait_for
from tests.tiny import REPOSITORY, make_job, write_project

LONG: dict[str, Any] = {"samples": 8 * 80, "save_every_s": 1000, "log_every": 5, "checkpoints": [1, 4]}
MODEL = Path("artifacts/models/clip/tiny-s0")
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | {
    "PYTHONPATH": str(REPOSITORY / "src"),
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}
STAGE = ("-m", "stages.train", "tiny", "0")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = (sys.executable, *words, *STAGE)
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[str]) -> str:
    _, said = process.communicate(timeout=300)
    return said


def log(folder: Path) -> list[list[str]]:
    """Return the log but for times."""
    with open(folder / MODEL / "log.csv", newline="") as file:
        return [row[:6] for row in csv.reader(file)]


def states(folder: Path) -> list[Path]:
    return list(folder.glob(".cache/resume/*/step_*"))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train with two processes of torchrun, recorded in MLflow."""
    folder = tmp_path_factory.mktemp("two")
    write_project(folder, devices=2, **LONG)
    tree = YAML(typ="safe", pure=True).load(folder / "params.yaml")
    tree["tracking"] |= {"enabled": True, "system_metrics": False, "register": False}
    YAML(typ="safe", pure=True).dump(tree, folder / "params.yaml")
    process = start(folder, *TORCHRUN)
    said = finish(process)
    assert process.returncode == 0, said
    return folder


@pytest.mark.slow
def test_two_processes_train_like_one_with_batch_norm_over_half_a_batch(tmp_path: Path, two: Path) -> None:
    write_project(tmp_path, bn_group=4, **LONG)
    process = start(tmp_path)
    said = finish(process)
    assert process.returncode == 0, said
    untrained = make_job().task.build(0).state_dict()
    for epoch in ("epoch_001", "epoch_004"):
        found, wanted = (load_tensors(f / MODEL / "checkpoints" / f"{epoch}.safetensors") for f in (two, tmp_path))
        assert_close(found, wanted, untrained)
    early = [[float(row[3]) for row in log(folder)[1:5]] for folder in (two, tmp_path)]
    assert early[0] == pytest.approx(early[1], rel=1e-4)


@pytest.mark.slow
def test_the_first_process_alone_writes(two: Path) -> None:
    rows = log(two)
    assert [int(row[0]) for row in rows[1:]] == list(range(5, 81, 5))
    assert read_json(two / MODEL / "done.json")["steps"] == 80
    assert [path.name for path in (two / MODEL).parent.iterdir()] == [MODEL.name]  # no leftovers of a second writer
    assert not list(two.glob(".cache/resume/*"))
    client = MlflowClient(tracking_uri=f"sqlite:///{two / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("domix")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 16


@pytest.mark.slow
def test_a_signal_to_one_of_two_stops_both_after_the_same_step(tmp_path: Path, two: Path) -> None:
    write_project(tmp_path, devices=2, **LONG)
    process = start(tmp_path, *TORCHRUN)
    wait_for(lambda: list(tmp_path.glob(".cache/resume/*/checkpoints/epoch_001.safetensors")), process)
    workers = [child for child in psutil.Process(process.pid).children() if "stages.train" in child.cmdline()]
    assert len(workers) == 2
    rank = {child.environ()["RANK"]: child for child in workers}
    rank["1"].send_signal(signal.SIGUSR1)
    said = finish(process)
    assert process.returncode != 0
    assert "exitcode: 75" in said
    told = {line for line in said.splitlines() if "train: stopped after step" in line}
    assert len(told) == 1, told  # in the same words, which name the step
    (state,) = states(tmp_path)
    assert f"stopped after step {int(state.name.removeprefix('step_'))} of 80" in told.pop()
    assert not (tmp_path / MODEL).exists()

    again = start(tmp_path, *TORCHRUN)
    said = finish(again)
    assert again.returncode == 0, said
    assert "going on after step" in said
    assert (tmp_path / MODEL / "model.safetensors").read_bytes() == (two / MODEL / "model.safetensors").read_bytes()
    assert log(tmp_path) == log(two)


TORCHELASTIC = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "domix"}


ALLOCATION = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "mine"}
FIRST = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}


@pytest.mark.parametrize(
    ("environment", "detected"),
    [
        ({}, False),
        (ALLOCATION, False),  # a shell of salloc
        (ALLOCATION | FIRST, False),  # a script of sbatch
        (ALLOCATION | FIRST | {"SLURM_STEP_ID": "0", "SLURM_PTY_PORT": "1"}, False),  # a shell of srun --pty
        (ALLOCATION | FIRST | {"SLURM_STEP_ID": "0"}, True),
    ],
)
def test_only_processes_that_srun_has_started_are_some_of_many(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], detected: bool
) -> None:
    from lightning.pytorch.plugins.environments import SLURMEnvironment

    for key in [key for key in os.environ if key.startswith("SLURM_")]:
        monkeypatch.delenv(key)
    monkeypatch.setenv("SLURM_JOB_NAME", "mine")
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    stand_alone()
    assert SLURMEnvironment.detect() == detected
    if not detected:
        check_processes(Machine("cpu", 1, 1, "32-true", 1))


@pytest.mark.parametrize("environment", [{}, TORCHELASTIC, SLURM])
def test_as_many_processes_as_asked_for_are_accepted(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    check_processes(Machine("cpu", 2, 2, "32-true", 1))


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (TORCHELASTIC, r"^4 processes were started, but trainer.devices x trainer.nodes is 2: make the two equal$"),
        (SLURM, r"^4 processes were started, but trainer.devices x trainer.nodes is 2"),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "domix"}, "--nodes 2 --ntasks-per-node 1 instead"),
    ],
)
def test_another_number_of_processes_is_refused(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ParameterError, match=says):
        check_processes(Machine("cpu", 1, 2, "32-true", 1))
