"""The slots of a machine: its GPUs, or shares of its cores and memory."""

from __future__ import annotations

import os
from typing import Any

import pytest

from domix.cli.sweeps import slots as places
from domix.runtime.errors import ParameterError
from domix.runtime.settings import replace
from domix.settings.load import load
from domix.settings.params import Params
from tests.tiny import REPOSITORY


@pytest.fixture
def params() -> Params:
    return load((REPOSITORY / "presets/smoke.yaml").read_text())


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


@pytest.mark.parametrize(
    ("wanted", "environment", "names", "threads"),
    [(None, {}, 12, "1"), (3, {}, 3, "5"), (16, {}, 16, "1"), (2, {"OMP_NUM_THREADS": "4"}, 2, None)],
)
def test_cores_are_shared_among_the_slots(
    params: Params,
    cores: None,
    monkeypatch: pytest.MonkeyPatch,
    wanted: int | None,
    environment: dict[str, str],
    names: int,
    threads: str | None,
) -> None:
    monkeypatch.setattr(places, "free_memory", lambda: 64 << 30)
    trainer = replace(params.trainer, accelerator="cpu", threads=0)
    found = places.find_slots(trainer, wanted=wanted, per_gpu=1, environment=environment, trainings=12)
    assert len({slot.name for slot in found}) == names
    assert {slot.environment.get("OMP_NUM_THREADS") for slot in found} == {threads}


@pytest.mark.parametrize(
    ("threads", "trainings", "gigabytes", "slots", "each"),
    [
        (0, 40, 64, 16, "1"),  # a core each
        (1, 5, 64, 5, "1"),  # no more than there are trainings
        (0, 5, 64, 5, "3"),  # which then share the cores
        (4, 40, 64, 4, "4"),
        (1, 40, 5, 2, "1"),  # no more than fit into the memory
        (1, 40, 1, 1, "1"),  # but one is tried
        (1, 0, 64, 1, "1"),
        (32, 40, 64, 1, "32"),
    ],
)
def test_there_are_as_many_slots_as_cores_memory_and_trainings(
    params: Params,
    cores: None,
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    trainings: int,
    gigabytes: int,
    slots: int,
    each: str,
) -> None:
    monkeypatch.setattr(places, "free_memory", lambda: gigabytes << 30)
    trainer = replace(params.trainer, accelerator="cpu", threads=threads)
    found = places.find_slots(trainer, wanted=None, per_gpu=1, environment={}, trainings=trainings)
    assert [slot.environment["OMP_NUM_THREADS"] for slot in found] == [each] * slots


@pytest.mark.parametrize(
    ("devices", "wanted", "per_gpu", "seen"),
    [
        (1, None, 1, ["4", "5", "6", "7"]),
        (1, 2, 1, ["4", "5"]),
        (1, None, 2, ["4", "5", "6", "7", "4", "5", "6", "7"]),
        (1, 5, 2, ["4", "5", "6", "7", "4"]),
        (2, None, 1, ["4,5", "6,7"]),
        (3, None, 1, ["4,5,6"]),
    ],
)
def test_each_slot_sees_its_gpus(
    params: Params,
    cores: None,
    monkeypatch: pytest.MonkeyPatch,
    devices: int,
    wanted: int | None,
    per_gpu: int,
    seen: list[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    environment = {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}
    trainer = replace(params.trainer, devices=devices)
    found = places.find_slots(trainer, wanted=wanted, per_gpu=per_gpu, environment=environment, trainings=9)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in found] == seen
    assert len({slot.name for slot in found}) == len(found)


@pytest.mark.parametrize(
    ("changes", "options", "says"),
    [
        ({"nodes": 2}, {}, "trainer.nodes is 2, but a sweep uses this machine alone"),
        ({"devices": 5}, {}, "trainer.devices is 5, but PyTorch sees 4 GPUs here"),
        ({}, {"wanted": 5}, "--slots is 5, but there is room for 4"),
        ({"accelerator": "cpu"}, {"per_gpu": 2}, "--per-gpu is for GPUs"),
    ],
)
def test_slots_that_are_not_there_are_refused(
    params: Params, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    with pytest.raises(ParameterError, match=says):
        asked = {"wanted": None, "per_gpu": 1, "environment": {}, "trainings": 9} | options
        places.find_slots(replace(params.trainer, **changes), **asked)
