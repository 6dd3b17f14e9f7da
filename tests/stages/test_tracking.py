"""Where the stages record their runs: one store for the repository, its experiments in temporary copies included."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient

from domix.project.tracking import PATIENCE, QUIET, tracker_of
from domix.runtime.settings import replace
from domix.runtime.tracking.mlflow_store import DATABASE
from domix.runtime.tracking.tracker import NullTracker
from domix.settings.load import load
from domix.settings.params import Params
from tests.tiny import REPOSITORY


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    for name in ("MLFLOW_TRACKING_URI", "DVC_EXP_NAME", *PATIENCE, *QUIET):
        monkeypatch.setenv(name, "")  # what the stage sets itself is then undone after the test
        monkeypatch.delenv(name)
    return load((REPOSITORY / "params.yaml").read_text())


def tags(store: str, experiment: str) -> dict[str, str]:
    client = MlflowClient(tracking_uri=store)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run.data.tags


def test_an_experiment_in_a_copy_is_recorded_in_the_original_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params
) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_EXP_NAME", "jolly-dodo")
    tracker_of(params, "train", "cg-low-s0", {"mixture": "12ab"})().finish(succeeded=True)
    assert not list(copy.iterdir())
    told = tags(f"sqlite:///{tmp_path / DATABASE}", params.tracking.experiment)
    assert told["dvc_experiment"] == "jolly-dodo"
    assert told["dvc_stage"] == "train@cg-low-s0"
    assert told["input.mixture"] == "12ab"
    assert told["study"] == "emoji: painting"
    assert (told["kind"], told["mixture"], told["seed"]) == ("clip", "cg-low", "0")


def test_the_environment_names_another_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = f"sqlite:///{tmp_path / 'other.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    tracker_of(params, "train", "cg-low-s0", {})().finish(succeeded=True)
    assert tags(store, params.tracking.experiment)["dvc_stage"] == "train@cg-low-s0"
    assert not (tmp_path / "here" / DATABASE).exists()


def test_the_record_names_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params) -> None:
    monkeypatch.setattr("domix.project.tracking.git_state", lambda: ("f" * 40, True))
    monkeypatch.chdir(tmp_path)
    tracker_of(params, "train", "cg-low-s0", {})().finish(succeeded=True)
    told = tags(f"sqlite:///{tmp_path / DATABASE}", params.tracking.experiment)
    assert (told["git_commit"], told["git_dirty"]) == ("f" * 40, "true")


def test_tracking_that_is_off_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params) -> None:
    monkeypatch.chdir(tmp_path)
    off = replace(params, tracking=replace(params.tracking, enabled=False))
    assert isinstance(tracker_of(off, "train", "cg-low-s0", {})(), NullTracker)
    assert not list(tmp_path.iterdir())
