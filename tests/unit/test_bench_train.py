"""The measurements of training: what is timed, in which order, and how it is told; no test asserts a speed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from domix.data.loading.samples import open_mixture
from domix.settings.load import load
from tests.tiny import write_project
from tools import bench_project, bench_train, bench_worker, open_clip_loop
from tools.bench_worker import Spec

SPEC = Spec("fit", "root", "tiny", batch=8, warm=2, steps=4)


@pytest.mark.parametrize(
    ("rates", "verdict"),
    [
        ((1000.0, 700.0), "1.40   (target: at least 1.35: met)"),
        ((1000.0, 600.0), "1.20   (target: at least 1.35: missed)"),
    ],
)
def test_trainings_side_by_side_are_compared_with_one_on_all_cores(monkeypatch, capsys, rates, verdict):
    asked = []

    def start(spec):
        asked.append(spec.changes["trainer.threads"])
        return {"samples_per_s": rates[0 if spec.changes["trainer.threads"] == 2 else 1], "data_wait": 0.0}

    monkeypatch.setattr(bench_train, "start", start)
    monkeypatch.setattr(bench_train.os, "cpu_count", lambda: 2)
    bench_train.together(bench_train.Bench("mini", SPEC), 2)
    assert asked == [2, 1, 1] * 2
    assert verdict in capsys.readouterr().out


def test_a_training_that_fails_beside_another_is_told(monkeypatch, capsys):
    monkeypatch.setattr(bench_train, "start", lambda spec: {"error": "why"})
    bench_train.together(bench_train.Bench("mini", SPEC), 1)
    assert "why" in capsys.readouterr().out


def test_the_clock_repeats_epochs_and_leaves_out_the_warm_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    time = [0.0]
    monkeypatch.setattr(open_clip_loop, "now", lambda device: time[0])
    monkeypatch.setattr(open_clip_loop.time, "perf_counter", lambda: time[0])

    def loader() -> Any:  # three batches an epoch, each of which takes 0.25 s to make
        for number in range(3):
            time[0] += 0.25
            yield (torch.tensor([number]), torch.tensor([number]))

    class Loader:
        def __iter__(self) -> Any:
            return loader()

    asked = open_clip_loop.Asked("mini", Path("x"), batch=8, workers=0, precision="fp32", warm=2, steps=5)
    clock = open_clip_loop.Clock(Loader(), asked, torch.device("cpu"))
    seen = []
    for images, _ in clock:
        seen.append(int(images))
        time[0] += 10.0 if len(seen) <= 2 else 1.0  # the step itself, slow at first
    assert seen == [0, 1, 2, 0, 1, 2, 0]
    assert clock.seconds == pytest.approx(5 * 1.25)
    assert clock.waited == pytest.approx(5 * 0.25)
    assert (clock.num_batches, clock.num_samples) == (7, 56)


def test_measurements_take_turns_and_what_fails_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    rates = {"a": iter([5.0, 1.0, 3.0])}

    def start(spec: Spec) -> dict[str, Any]:
        order.append(spec.mixture)
        return {"samples_per_s": next(rates["a"]), "gpu": 0} if spec.mixture == "a" else {"error": "no"}

    monkeypatch.setattr(bench_train, "start", start)
    specs = {name: Spec("fit", "root", name, 8, 2, 4) for name in ("a", "b")}
    found = bench_train.in_turns(specs, 3)
    assert order == ["a", "b", "a", "a"]
    assert found["a"] == {"samples_per_s": 3.0, "gpu": 0, "rates": [5.0, 1.0, 3.0]}
    assert found["b"] == {"error": "no"}


def test_a_measurement_that_fails_is_told_by_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Traceback\n  File\nValueError: why\n")
    monkeypatch.setattr(bench_train.subprocess, "run", lambda *_, **__: failed)
    assert bench_train.start(SPEC) == {"error": "ValueError: why"}


def test_each_lever_is_measured_alone_and_left_out_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Spec] = {}

    def in_turns(specs: dict[str, Spec], turns: int) -> dict[str, dict[str, Any]]:
        seen.update(specs)
        return {name: {"samples_per_s": 1.0, "rates": [1.0], "data_wait": 0.0} for name in specs}

    monkeypatch.setattr(bench_train, "in_turns", in_turns)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(bench_train, "bf16_on_cpu", lambda: False)
    bench_train.levers(bench_train.Bench("mini", SPEC), 1)
    plain, every = seen["plain"].changes, seen["all"].changes
    assert plain["trainer.channels_last"] is False
    assert every["trainer.channels_last"] is True
    assert every["trainer.precision"] == "32"  # bf16 is no lever where it is not native
    assert not any("precision" in name for name in seen)
    assert seen["trainer.fused alone"].changes == plain | {"trainer.fused": True}
    assert seen["trainer.fused flipped"].changes == every | {"trainer.fused": False}
    assert seen["accumulate 2"].changes == every | {"train.accumulate": 2}
    assert not any("pin_memory" in name for name in seen)


@pytest.mark.parametrize(
    ("value", "target", "most", "says"),
    [
        (0.96, 0.95, False, "96.0%   (target: at least 95.0%: met)"),
        (0.94, 0.95, False, "missed"),
        (0.04, 0.03, True, "4.0%   (target: at most 3.0%: missed)"),
        (1.61, 1.5, False, "1.61   (target: at least 1.50: met)"),
        (2950.4, 2900, False, "2,950   (target: at least 2,900: met)"),
    ],
)
def test_targets_stand_beside_what_was_reached(
    capsys: pytest.CaptureFixture[str], value: float, target: float, most: bool, says: str
) -> None:
    bench_train.judge("name", value, target, most=most)
    assert says in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--only", "bare,speed"], "--only names 'speed'"), (["--turns", "0"], "--turns must be positive, not 0")],
)
def test_a_mistake_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert bench_train.main(*arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_without_packed_data_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert bench_train.main("--only", "memory") == 2
    assert "dvc repro mixtures captions" in capsys.readouterr().err


def test_our_training_the_bare_loop_and_photographs_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    write_project(source)
    params = load((source / "params.yaml").read_text())
    artifacts = source / "artifacts"
    opened = open_mixture(
        artifacts / "mixtures/tiny.parquet", shards=artifacts / "shards", captions=artifacts / "captions"
    )
    changes = {"model.name": str(source / "model.json")}
    params = bench_worker.changed(params, changes)
    root = bench_project.make(tmp_path / "photos", opened, params, count=30)
    monkeypatch.chdir(tmp_path)
    for kind in ("fit", "bare"):
        spec = {"kind": kind, "root": str(root), "mixture": "photos", "batch": 8, "warm": 1, "steps": 2}
        bench_worker.main(json.dumps(spec))
        found = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert found["samples_per_s"] > 0
        assert 0 <= found["data_wait"] < 1
        assert found["host"] > 0
    photos = open_mixture(
        root / "artifacts/mixtures/photos.parquet",
        shards=root / "artifacts/shards",
        captions=root / "artifacts/captions",
    )
    assert photos.samples["text"].tolist()[: len(opened.samples)] == opened.samples["text"].tolist()
    path = tmp_path / "one.jpg"
    path.write_bytes(photos.readers["photos"].read(1))
    with Image.open(path) as image:
        assert image.size == (341, 256)
    stamp = (root / "artifacts/shards/photos/index.parquet").stat().st_mtime_ns
    bench_project.make(tmp_path / "photos", opened, params, count=30)
    assert (root / "artifacts/shards/photos/index.parquet").stat().st_mtime_ns == stamp  # not made again
