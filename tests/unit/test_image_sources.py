"""Which loader serves a training, by what the machine has; and what a loader costs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from domix.data.loading.image_sources import choose_loader
from domix.data.loading.images import Images, Selection
from domix.data.loading.loader import Batches, Order
from domix.data.loading.packed_images import PackedImages
from domix.runtime import memory
from domix.runtime.memory import free_memory
from domix.runtime.settings import replace
from domix.train import feed as feeding
from domix.train.feed import feed, workers
from domix.train.job import Job
from domix.train.machine import Machine
from tests.packed_sources import AUGMENTATION, images_from, make_job, write_sources
from tests.tiny import TRAINER, make_images

GPU, CPU = (Machine(kind, 2, 1, "32-true", 1) for kind in ("gpu", "cpu"))


@pytest.mark.parametrize(
    ("loader", "nbytes", "processes", "chosen"),
    [
        ("auto", 50, 1, "resident"),
        ("auto", 51, 1, "shards"),
        ("auto", 50, 2, "cache"),
        ("auto", 51, 2, "shards"),
        ("resident", 1000, 2, "resident"),
        ("cache", 1, 1, "cache"),
        ("stream", 1, 1, "stream"),
    ],
)
def test_auto_goes_by_half_of_the_free_memory(loader: str, nbytes: int, processes: int, chosen: str) -> None:
    assert choose_loader(loader, nbytes, processes=processes, free=100) == chosen


def test_auto_measures_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sources(tmp_path)
    assert isinstance(images_from(tmp_path, "auto"), Images)
    assert isinstance(images_from(tmp_path, "auto", devices=2), Selection)
    monkeypatch.setattr("domix.data.loading.image_sources.free_memory", lambda: 10_000)
    assert isinstance(images_from(tmp_path, "auto"), PackedImages)


class Available:
    available = 1000


def group(folder: Path, most: str, used: int, cache: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")


@pytest.mark.parametrize(
    ("inner", "outer", "free"),
    [
        (("max", 9, 0), ("max", 9, 0), 1000),
        (("500", 200, 30), ("max", 9, 0), 330),
        (("500", 200, 0), ("400", 300, 0), 100),
        (("5000", 200, 0), ("max", 9, 0), 1000),
        (("100", 200, 0), ("max", 9, 0), 0),
    ],
)
def test_a_job_of_a_batch_system_has_what_its_groups_leave_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inner: tuple[str, int, int],
    outer: tuple[str, int, int],
    free: int,
) -> None:
    monkeypatch.setattr(memory.psutil, "virtual_memory", Available)
    group(tmp_path / "groups/job", *outer)
    group(tmp_path / "groups/job/step", *inner)
    (tmp_path / "cgroup").write_text("1:name=systemd:/x\n0::/job/step\n")
    assert free_memory(tmp_path / "cgroup", tmp_path / "groups") == free
    assert free_memory(tmp_path / "none", tmp_path / "groups") == 1000
    (tmp_path / "cgroup").write_text("4:memory:/job\n")  # version 1
    assert free_memory(tmp_path / "cgroup", tmp_path / "groups") == 1000


@pytest.mark.parametrize(
    ("asked", "machine", "allowed", "expected"),
    [(0, GPU, 16, 8), (0, GPU, 4, 4), (0, GPU, 1, 1), (3, GPU, 16, 3), (0, CPU, 16, 0), (3, CPU, 16, 3)],
)
def test_workers_are_the_devices_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, asked: int, machine: Machine, allowed: int, expected: int
) -> None:
    monkeypatch.setattr(feeding.os, "sched_getaffinity", lambda process: set(range(allowed)))
    monkeypatch.setattr(feeding.os, "cpu_count", lambda: 16)
    job = object.__new__(Job)
    object.__setattr__(job, "trainer", replace(TRAINER, workers=asked))
    assert workers(job, machine) == expected


@pytest.mark.parametrize(
    ("loader", "machine", "expected"),
    [
        ("resident", CPU, {"workers": 0, "pin": False, "ahead": False}),
        ("resident", GPU, {"workers": 0, "pin": True, "ahead": True}),
        ("cache", CPU, {"workers": 0, "pin": False, "ahead": True}),
        ("cache", GPU, {"workers": 0, "pin": True, "ahead": True}),
        ("shards", CPU, {"workers": 2, "pin": False, "ahead": True}),
        ("shards", GPU, {"workers": 2, "pin": True, "ahead": True}),
    ],
)
def test_batches_are_made_ahead_where_that_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: str, machine: Machine, expected: dict[str, object]
) -> None:
    write_sources(tmp_path)
    job = make_job(tmp_path, loader=loader, workers=2, pin_memory=True)
    batches = job.batches(torch.zeros(len(job.images)), start=0)
    heard: list[dict[str, object]] = []
    real = feeding.prefetched

    def watched(of: Batches, **named: object) -> object:
        heard.append(named)
        return real(of, **named)

    monkeypatch.setattr(feeding, "prefetched", watched)
    with feed(job, batches, machine, name="run", process=0) as source:
        assert len(source) == 12
    assert heard == [expected]


RESIDENT = """
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from domix.data.loading.images import Images


def peak():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


side, count = 512, 160
file = io.BytesIO()
Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(file, "PNG")
sizes = torch.full((count, 2), side)
Images.decode(lambda row: file.getvalue(), ["x"] * 4, sizes[:4], threads=1)
before = peak()
images = Images.decode(lambda row: file.getvalue(), ["x"] * count, sizes, threads=1)
for row in range(count):
    images.cut(torch.tensor([row]))
print((peak() - before) / images.nbytes)
"""


def test_images_in_memory_take_what_their_pixels_take() -> None:
    """In a process of its own: what others have freed may serve again, and their peak hides this one."""
    done = subprocess.run([sys.executable, "-c", RESIDENT], check=True, capture_output=True, text=True)
    assert 0.95 < float(done.stdout) < 1.05


def test_nothing_grows_over_epochs() -> None:
    images = make_images(20)
    tokens = torch.zeros((20, 1), dtype=torch.int32)
    batches = Batches(images, tokens, AUGMENTATION, Order(count=20, seed=0), batch=7, total=300)
    assert max(len(batches._orders) for _ in batches) == 2
