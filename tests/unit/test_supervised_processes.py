"""A classifier trained by two processes is the one that a single process trains, its log included."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing

from domix.model.checkpoint import load_tensors
from domix.train.fit import fit
from domix.train.job import Job
from tests.closeness import assert_close
from tests.processes import become_one_of_two, free_port
from tests.tiny_supervised import NORMLESS, RESNET, make_job

FEW: dict[str, Any] = {"batch": 16, "samples": 16 * 2, "log_every": 1}  # of more steps, rounding would grow
# name -> encoder, parameters on two devices, parameters that give the same on one
ALIKE: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "parts": (NORMLESS, {"accumulate": 4}, {}),
    "batch norm": (RESNET, {}, {"bn_group": 8}),
    "batch norm in parts": (RESNET, {"accumulate": 2}, {"accumulate": 2, "bn_group": 4}),
}


def train(name: str, job: Job, folder: Path) -> None:
    fit(job, out=folder / name / "model", resume=folder / name / "resume", about={}, progress=False)


def one_process(rank: int, port: int, folder: Path) -> None:
    """Do what torchrun lets one of two processes do."""
    become_one_of_two(rank, port)
    for name, (encoder, changes, _) in ALIKE.items():
        train(name, make_job(encoder=encoder, devices=2, **FEW | changes), folder)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train everything on two devices."""
    folder = tmp_path_factory.mktemp("two")
    port = free_port()
    torch.multiprocessing.spawn(one_process, (port, folder), nprocs=2)
    return folder


def rows(model: Path) -> list[dict[str, float]]:
    with open(model / "log.csv", newline="") as file:
        told = ("step", "epoch", "samples", "loss", "lr", "accuracy")
        return [{key: float(row[key]) for key in told} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ALIKE)
def test_two_processes_train_like_one(tmp_path: Path, two: Path, name: str) -> None:
    encoder, _, changes = ALIKE[name]
    train(name, make_job(encoder=encoder, **FEW | changes), tmp_path)
    log, expected = rows(two / name / "model"), rows(tmp_path / name / "model")
    assert len(log) == 2
    for row, wanted in zip(log, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-4)
    found, wanted = (load_tensors(folder / name / "model/model.safetensors") for folder in (two, tmp_path))
    untrained = make_job(encoder=encoder).task.build(0).state_dict()
    # The first device's parts lie elsewhere in the batch than those of a single device, whose first groups count here.
    kept = [key for key in wanted if name != "batch norm in parts" or "running_" not in key]
    assert_close(found, wanted, untrained, names=kept)
