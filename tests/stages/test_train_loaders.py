"""The stage train with processes that decode: whatever ends it, they end too, and the weights are the same."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from domix.project.common import load_params
from domix.runtime.settings import replace
from stages import train
from tests.stages.test_train_resume import MODEL, start, states, wait_for
from tests.tiny import write_project

LONG: dict[str, Any] = {"samples": 8 * 150, "save_every_s": 1, "log_every": 20, "window": 1, "workers": 2}


def write(folder: Path, **changes: Any) -> None:
    shards = {"emoji": f"file:{folder}/artifacts/shards/emoji"} if changes["loader"] == "stream" else {}
    write_project(folder, **LONG | {"shards": shards} | changes)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    _, said = process.communicate(timeout=300)
    assert process.returncode == code, said
    return said


def weights(folder: Path) -> bytes:
    return (folder / MODEL / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_stop_saves_the_state_and_ends_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Another loader goes on where the stopped one was, to the weights of a training that nobody stopped."""
    caplog.set_level(logging.INFO)
    folder = tmp_path / "cut"
    write(folder, loader="stream")
    process = start(folder)
    wait_for(lambda: states(folder), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    for child in children:
        os.kill(child.pid, signal.SIGTERM)  # as a batch system does
    process.send_signal(signal.SIGTERM)
    assert "run it again to continue" in finish(process, 75)
    assert not psutil.wait_procs(children, timeout=30)[1]

    write(tmp_path / "whole", loader="resident")
    for place, loader in ((folder, "cache"), (tmp_path / "whole", "resident")):
        monkeypatch.chdir(place)
        params = load_params()
        train.main(replace(params, trainer=replace(params.trainer, loader=loader)), "tiny", "0")
    assert "going on after step" in caplog.text
    assert weights(folder) == weights(tmp_path / "whole")


@pytest.mark.slow
def test_workers_outlive_a_killed_training_for_seconds_only(tmp_path: Path) -> None:
    write(tmp_path, loader="shards")
    process = start(tmp_path)
    wait_for(lambda: states(tmp_path), process)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    finish(process, -9)
    assert not psutil.wait_procs(children, timeout=30)[1]


@pytest.mark.slow
def test_two_processes_share_a_spool(tmp_path: Path) -> None:
    for loader in ("cache", "stream"):
        write(tmp_path / loader, loader=loader, devices=2, samples=8 * 20)
        finish(start(tmp_path / loader))
    assert weights(tmp_path / "stream") == weights(tmp_path / "cache")
    assert not list((tmp_path / "stream/.cache/spool").iterdir())
