"""MLflow: runs are recorded where they should be, and nothing that goes wrong there stops a training."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from domix.runtime import mlflow_store, mlflow_tracker, tracking

TAGS = {"git_commit": "0" * 40, "dvc_stage": "train@cg-low-s0"}


def start(folder: Path, *, uri: str | None = None, enabled: bool = True) -> tracking.Tracker:
    return mlflow_store.open_tracker(
        enabled=enabled, uri=uri, root=folder, experiment="domix", run_name="cg-low-s0", tags=TAGS
    )


def recorded(root: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root / mlflow_store.DATABASE}")
    experiment = client.get_experiment_by_name("domix")
    assert experiment is not None
    assert experiment.artifact_location == (root / mlflow_store.ARTIFACTS).as_uri()
    return client.search_runs([experiment.experiment_id])


def test_a_run_is_recorded_in_the_root_whatever_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tracker = start(tmp_path)
    tracker.params({"lr": 0.003, "model": "mini"})
    tracker.metrics({"loss": 5.5}, 10)
    tracker.metrics({"loss": 4.5}, 20)
    tracker.finish(succeeded=True)
    (run,) = recorded(tmp_path)
    assert (run.info.run_name, run.info.status) == ("cg-low-s0", "FINISHED")
    assert run.data.params == {"lr": "0.003", "model": "mini"}
    assert run.data.metrics == {"loss": 4.5}
    assert TAGS.items() <= run.data.tags.items()
    assert not list((tmp_path / "elsewhere").iterdir())


SEVERAL = """
import sys
from pathlib import Path
from domix.runtime.mlflow_store import open_tracker
from domix.runtime.mlflow_tracker import MlflowTracker
tracker = open_tracker(
    enabled=True, uri=None, root=Path(sys.argv[1]), experiment="domix", run_name=sys.argv[2], tags={}
)
assert isinstance(tracker, MlflowTracker)
tracker.finish(succeeded=False)
"""


@pytest.mark.slow
def test_processes_that_create_the_store_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    commands = [[sys.executable, "-c", SEVERAL, str(tmp_path), name] for name in ("a", "b")]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert sorted(run.info.run_name for run in recorded(tmp_path)) == ["a", "b"]
    assert {run.info.status for run in recorded(tmp_path)} == {"KILLED"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("fault", ["no server", "broken store", "root is a file"])
def test_a_store_that_cannot_be_opened_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    folder, uri = tmp_path, None
    match fault:
        case "no server":
            uri = f"http://127.0.0.1:{free_port()}"
        case "broken store":
            (tmp_path / mlflow_store.DATABASE).write_text("not a database" * 100)
        case "root is a file":
            folder = tmp_path / "file"
            folder.touch()
    with caplog.at_level(logging.WARNING, "domix"):
        tracker = start(folder, uri=uri)
    assert isinstance(tracker, tracking.NullTracker)
    tracker.metrics({"loss": 1.0}, 1)
    tracker.finish(succeeded=True)
    (record,) = [record for record in caplog.records if record.name == "domix.runtime.mlflow_store"]
    assert "training goes on without a record" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_tracking_that_is_off_writes_nothing(tmp_path: Path) -> None:
    assert isinstance(start(tmp_path, enabled=False), tracking.NullTracker)
    assert not list(tmp_path.iterdir())


class Client:
    """Stands for an MlflowClient that fails, or is slow, from the second batch on."""

    def __init__(self, *, fails: bool = False, seconds: float = 0.0) -> None:
        self.fails, self.seconds, self.calls = fails, seconds, 0

    def log_batch(self, run_id: str, **entries: Any) -> None:
        self.calls += 1
        time.sleep(self.seconds)
        if self.fails and self.calls > 1:
            raise OSError("the disk is full\nand more")

    def set_terminated(self, run_id: str, status: str) -> None:
        self.log_batch(run_id)


def test_a_store_that_fails_midway_costs_one_warning_and_no_more_calls(caplog: pytest.LogCaptureFixture) -> None:
    client = Client(fails=True)
    tracker = mlflow_tracker.MlflowTracker(client, "run")
    with caplog.at_level(logging.WARNING, "domix"):
        for step in range(20):
            tracker.metrics({"loss": 1.0}, step)
        tracker.finish(succeeded=True)
    assert client.calls == 2
    assert [record.getMessage() for record in caplog.records] == [
        "MLflow fails, training goes on without a record: the disk is full"
    ]


def test_a_store_that_hangs_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow_tracker, "DRAIN_TIMEOUT_S", 0.05)
    tracker = mlflow_tracker.MlflowTracker(Client(seconds=1.0), "run")
    with caplog.at_level(logging.WARNING, "domix"):
        tracker.metrics({"loss": 1.0}, 1)
        tracker.finish(succeeded=True)
    assert "MLflow does not answer" in caplog.text
