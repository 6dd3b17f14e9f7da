"""What the stage train leaves for people: the first batch, curves on test images, one record in MLflow, a model."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image
from ruamel.yaml import YAML

from domix.data.loading.loader import Batches
from domix.data.store.index import read_index, write_index
from domix.project.tracking import PATIENCE, QUIET
from domix.runtime.errors import Interrupted
from domix.runtime.tracking.mlflow_store import ARTIFACTS, DATABASE
from domix.settings.load import load
from domix.settings.params import Params
from stages import train
from tests.stages.test_train_resume import ENVIRONMENT
from tests.tiny import CONFIG, write_project

MODEL = Path("artifacts/models/clip/tiny-s0")


def make_project(root: Path, *, tracked: bool = True, every: int | None = 4, **changes: Any) -> Params:
    """Write a project whose last eight images are test images."""
    write_project(root, rows=[row for row in range(16) if row != 1], **changes)
    folder = root / "artifacts/shards/emoji"
    index = read_index(folder, None)
    index.loc[16:, "split"] = "test"
    index.loc[16:, ["class", "label"]] = index.loc[:7, ["class", "label"]].to_numpy()  # cells that are shown
    write_index(folder, index.astype({"label": "int64"}))
    path = root / "params.yaml"
    tree = YAML(typ="safe", pure=True).load(path)
    tree["validation"] |= {"every": every, "images": 6}
    tree["tracking"] |= {"enabled": tracked, "tensorboard": tracked, "system_metrics": False}
    YAML(typ="safe", pure=True).dump(tree, path)
    return load(path.read_text())


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", "DOMIX_PROGRESS", *PATIENCE, *QUIET):
        monkeypatch.setenv(name, "")  # what the stage sets itself is then undone after the test
        monkeypatch.delenv(name)


def curve(root: Path) -> list[dict[str, str]]:
    with open(root / MODEL / "validation.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_training_cut_short_leaves_one_record_one_image_and_whole_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, project = tmp_path / "plain", tmp_path / "tracked"
    for folder in (plain, project):
        folder.mkdir()
    monkeypatch.chdir(plain)
    train.main(make_project(plain, tracked=False, every=None), "tiny", "0")
    assert not (plain / MODEL / "validation.csv").exists()

    monkeypatch.chdir(project)
    params = make_project(project)
    make = Batches.make

    def stop(self: Batches, at: int) -> Any:
        if at == 6:
            raise Interrupted("stopped")
        return make(self, at)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(Batches, "make", stop)
        train.main(params, "tiny", "0")
    train.main(params, "tiny", "0")

    for name in ("model.safetensors", "done.json", "config.json", "first_batch.png"):
        assert (project / MODEL / name).read_bytes() == (plain / MODEL / name).read_bytes()
    rows = curve(project)
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert {row["n_seen"] for row in rows} == {"6"}
    assert not [name for name in rows[0] if "held_out" in name]  # the tiny mixture knows no test domain

    client = MlflowClient(tracking_uri=f"sqlite:///{project / DATABASE}")
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    for name, steps in (("loss", [5, 10, 12]), ("validation/loss", [4, 8, 12]), ("validation/seen_top1", [4, 8, 12])):
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, name)] == steps
    kept = project / ARTIFACTS / run.info.run_id / "artifacts" / "first_batch.png"
    assert kept.read_bytes() == (project / MODEL / "first_batch.png").read_bytes()
    with Image.open(io.BytesIO(kept.read_bytes())) as image:
        assert image.size[0] > 500
    (version,) = client.search_model_versions(f"name='{params.tracking.experiment}'")
    assert (version.run_id, version.tags["run"], version.tags["mixture"]) == (run.info.run_id, "tiny-s0", "tiny")
    (events,) = (project / ".cache/tensorboard/train").glob("tiny-s0-*/events*")
    assert events.stat().st_size > 1000
    assert not list((project / ".cache/resume").iterdir())


NORMLESS = {"image_size": 32, "layers": 1, "width": 8, "head_width": 4, "patch_size": 8}  # no batch norm


@pytest.mark.slow
def test_of_two_processes_the_first_alone_measures_and_records(tmp_path: Path) -> None:
    make_project(tmp_path, config=CONFIG | {"vision_cfg": NORMLESS}, devices=2)
    command = [sys.executable, "-m", "stages.train", "tiny", "0"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in curve(tmp_path)] == ["4", "8", "12"]
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / DATABASE}")
    experiment = client.get_experiment_by_name("domix")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "validation/loss")] == [4, 8, 12]
