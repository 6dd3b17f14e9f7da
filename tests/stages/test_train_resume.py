"""The stage train as a real process: killed, it publishes nothing, and goes on to the very same weights."""

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
from ruamel.yaml import YAML

from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_json
from domix.settings.load import load
from domix.train.settings import DECIDING, Trainer
from stages import train
from tests.commands import told
from tests.processes import wait_for
from tests.tiny import CONFIG, REPOSITORY, write_project

LONG: dict[str, Any] = {"samples": 8 * 400, "save_every_s": 1, "log_every": 50, "checkpoints": [1]}  # some seconds
MODEL = Path("artifacts/models/clip/tiny-s0")
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(REPOSITORY / "src"),
    "OMP_NUM_THREADS": "1",
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_OFFLINE": "1",
}


def start(folder: Path, *command: str) -> subprocess.Popen[str]:
    words = command or (sys.executable, "-m", "stages.train", "tiny", "0")
    return subprocess.Popen(words, cwd=folder, env=ENVIRONMENT, text=True, stderr=subprocess.PIPE)


def under_way(folder: Path) -> bool:
    """Tell whether the weights after the first epoch, three steps, have been kept."""
    return any(folder.glob(".cache/resume/*/checkpoints/*.safetensors"))


def states(folder: Path) -> list[Path]:
    return list(folder.glob(".cache/resume/*/step_*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    write_project(folder, **LONG)
    process = start(folder)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return folder


def losses(folder: Path) -> list[float]:
    with open(folder / MODEL / "log.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def assert_same(folder: Path, whole: Path) -> None:
    made = [{p.name: p.read_bytes() for p in (root / MODEL).rglob("*") if p.is_file()} for root in (folder, whole)]
    assert made[0] == made[1]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)])
def test_a_killed_training_goes_on_to_the_same_weights(
    tmp_path: Path, whole: Path, number: signal.Signals, code: int
) -> None:
    write_project(tmp_path, **LONG)
    process = start(tmp_path)
    wait_for(lambda: states(tmp_path), process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert ("run it again to continue" in said) == (code == 75), said
    assert not (tmp_path / MODEL).exists()

    again = start(tmp_path)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert "going on after step" in said
    assert_same(tmp_path, whole)
    assert not states(tmp_path)
    assert not list(MODEL.parent.glob(".*"))


STAGE = """stages:
  train:
    cmd: {python} -m stages.train tiny 0
    deps: [artifacts/mixtures, artifacts/captions, artifacts/shards]
    params: [model, train]
    outs: [artifacts/models/clip/tiny-s0]
"""


NORMLESS = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8}  # no batch norm


@pytest.mark.slow
def test_two_processes_train_like_one_and_resume_exactly(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("one", "two", "cut")}
    for name, folder in folders.items():
        changes: dict[str, Any] = LONG | {"samples": 8 * 150, "log_every": 5, "devices": 1 if name == "one" else 2}
        write_project(folder, config=CONFIG | {"vision_cfg": NORMLESS}, **changes)
        process = start(folder)
        if name == "cut":
            wait_for(lambda: under_way(folders["cut"]), process)
            process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
        assert process.returncode == (75 if name == "cut" else 0), said
    assert not (folders["cut"] / MODEL).exists()
    again = start(folders["cut"])
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert_same(folders["cut"], folders["two"])
    one, two = (losses(folders[name])[:4] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-4)


@pytest.mark.slow
def test_dvc_never_commits_a_training_cut_short(tmp_path: Path, whole: Path) -> None:
    write_project(tmp_path, **LONG)
    (tmp_path / "dvc.yaml").write_text(STAGE.format(python=sys.executable))
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=tmp_path, env=ENVIRONMENT, check=True)
    process = start(tmp_path, *dvc, "repro")
    wait_for(lambda: under_way(tmp_path), process)
    for child in psutil.Process(process.pid).children(recursive=True):
        if child.is_running() and "stages.train" in child.cmdline() and child.cmdline()[0] == sys.executable:
            child.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0, said
    assert not (tmp_path / "dvc.lock").exists()
    assert not (tmp_path / MODEL).exists()

    again = start(tmp_path, *dvc, "repro")
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    assert "going on after step" in said
    assert "train:" in (tmp_path / "dvc.lock").read_text()
    assert_same(tmp_path, whole)


def test_the_stage_describes_its_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    train.main(load(Path("params.yaml").read_text()), "tiny", "0")
    config, done = read_json(MODEL / "config.json"), read_json(MODEL / "done.json")
    assert config["mixture"]["name"] == "tiny"
    assert len(config["mixture"]["digest"]) == 64
    assert config["mixture"]["samples"] == 23
    assert done["steps"] == 12


@pytest.mark.parametrize(
    ("changes", "edit", "kind", "says"),
    [
        ({"rows": range(24)}, ("", ""), DataError, "must not show 'apple' in domain 'sketch'"),
        ({"batch": 32, "samples": 320}, ("", ""), ParameterError, "batch is 32, more than the mixture's 23 samples"),
        ({}, ("model.json", "RN51"), ParameterError, r"^model\.name: there is no model 'RN51'; did you mean RN50"),
        ({"checkpoints": [9]}, ("", ""), ParameterError, "asks for epoch 9"),
    ],
)
def test_bad_input_is_told_in_a_sentence_and_nothing_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    edit: tuple[str, str],
    kind: type[Exception],
    says: str,
) -> None:
    write_project(tmp_path, **changes)
    monkeypatch.chdir(tmp_path)
    text = Path("params.yaml").read_text().replace(*edit)
    with pytest.raises(kind, match=says):
        train.main(load(text), "tiny", "0")
    assert not Path("artifacts/models").exists()
    assert not Path(".cache").exists()


def test_a_missing_caption_is_told_by_its_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    path = Path("artifacts/captions/emoji.parquet")
    pd.read_parquet(path).iloc[2:].to_parquet(path)
    with pytest.raises(DataError, match="no caption for 'real/apple/0' and 0 others") as caught:
        train.main(load(Path("params.yaml").read_text()), "tiny", "0")
    assert told(caught.value).endswith(" others: delete artifacts/captions and run dvc repro captions")


def test_what_decides_a_result_is_what_dvc_and_the_saved_states_go_by() -> None:
    stage = YAML(typ="safe", pure=True).load(REPOSITORY / "dvc.yaml")["stages"]["train"]
    named = {name.partition(".")[2] for name in stage["params"] if name.startswith("trainer.")}
    assert named == set(DECIDING)
    known = set(Trainer.model_fields)
    free = {"loader", "workers", "pin_memory", "shards", "threads", "save_every_s", "keep_states"}
    assert known - set(DECIDING) == free
