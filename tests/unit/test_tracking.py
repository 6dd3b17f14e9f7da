"""MLflow: runs are recorded where they should be, and nothing that goes wrong there stops a training."""

from __future__ import annotations

import io
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from domix.runtime.errors import ParameterError
from domix.runtime.tracking import mlflow_store, mlflow_tracker, system_metrics
from domix.runtime.tracking import tracker as tracking
from domix.runtime.tracking.tensorboard import TensorboardTracker

TAGS = {"git_commit": "0" * 40, "dvc_stage": "train@cg-low-s0"}


def start(folder: Path, *, uri: str | None = None, enabled: bool = True, **named: Any) -> tracking.Tracker:
    return mlflow_store.open_tracker(
        enabled=enabled, uri=uri, root=folder, experiment="domix", run_name="cg-low-s0", tags=TAGS, **named
    )


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an empty database once: it takes seconds."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("schema") / mlflow_store.DATABASE
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def root(tmp_path: Path, schema: Path) -> Path:
    """Return a folder with an empty database."""
    shutil.copy(schema, tmp_path / mlflow_store.DATABASE)
    return tmp_path


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
from domix.runtime.tracking.mlflow_store import open_tracker
from domix.runtime.tracking.mlflow_tracker import MlflowTracker
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
    (record,) = [record for record in caplog.records if record.name == "domix.runtime.tracking.mlflow_store"]
    assert "work goes on without a record" in record.getMessage()
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
        "MLflow fails, work goes on without a record: the disk is full"
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


# -- TensorBoard


def events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return read


def test_tensorboard_has_the_same_curves_once_however_often_a_run_is_started(tmp_path: Path) -> None:
    image = io.BytesIO()
    Image.new("RGB", (5, 3), "red").save(image, "PNG")
    for _ in range(2):
        tracker = TensorboardTracker(tmp_path / "run")
        tracker.params({"lr": 0.003})
        tracker.file("first_batch.png", image.getvalue())
        tracker.file("notes.txt", b"not an image")
        for step, loss in ((5, 2.5), (10, 1.5)):
            tracker.metrics({"loss": loss, "validation/image_to_text_r1": loss / 10}, step)
        tracker.finish(succeeded=True)
    read = events(tmp_path / "run")
    assert [(e.step, e.value) for e in read.Scalars("train/loss")] == [(5, 2.5), (10, 1.5)]
    assert [e.step for e in read.Scalars("validation/image_to_text_r1")] == [5, 10]
    assert [(e.width, e.height) for e in read.Images("first_batch")] == [(5, 3)]
    assert "| lr | 0.003 |" in str(read.Tensors("parameters/text_summary"))


def test_tensorboard_that_cannot_write_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING, "domix"):
        tracker = TensorboardTracker(tmp_path / "file" / "run")
        tracker.metrics({"loss": 1.0}, 1)
        tracker.finish(succeeded=False)
    (record,) = caplog.records
    assert "training goes on without them" in record.getMessage()


def test_without_tensorboard_a_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(
        ParameterError, match=r"not installed: pip install 'domix\[tensorboard\]', or do without"
    ) as caught:
        TensorboardTracker(tmp_path)
    assert caught.value.argument == "tensorboard"


# -- what a run knows already


def history(root: Path, run_id: str, name: str) -> list[int]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{root / mlflow_store.DATABASE}")
    return [metric.step for metric in client.get_metric_history(run_id, name)]


def test_a_run_that_goes_on_has_one_record_without_gaps_or_doubles(root: Path) -> None:
    reminder = root / "state" / "mlflow_run"
    first = start(root, reminder=reminder)
    first.params({"lr": 0.003})
    for step in (5, 10):
        first.metrics({"loss": 1.0}, step)
    first.metrics({"validation/loss": 3.0}, 10)
    first.finish(succeeded=False)
    assert [run.info.status for run in recorded(root)] == ["KILLED"]

    again = start(root, reminder=reminder)
    assert [run.info.status for run in recorded(root)] == ["RUNNING"]
    again.params({"lr": 0.003, "workers": 4})
    for step in (5, 10, 15):
        again.metrics({"loss": 1.0}, step)
    again.metrics({"validation/loss": 3.0}, 5)  # measured before the last that is known: known, too
    again.metrics({"validation/loss": 2.0}, 20)
    again.finish(succeeded=True)
    (run,) = recorded(root)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lr": "0.003", "workers": "4"}
    assert history(root, run.info.run_id, "loss") == [5, 10, 15]
    assert history(root, run.info.run_id, "validation/loss") == [10, 20]


@pytest.mark.parametrize("known", ["", "0" * 32])
def test_a_reminder_of_no_run_of_this_store_starts_a_new_one(root: Path, known: str) -> None:
    (root / "reminder").write_text(known)
    start(root, reminder=root / "reminder").finish(succeeded=True)
    (run,) = recorded(root)
    assert (root / "reminder").read_text() == run.info.run_id


def test_files_are_kept_with_the_run(root: Path) -> None:
    tracker = start(root)
    tracker.file("first_batch.png", b"an image")
    tracker.finish(succeeded=True)
    (run,) = recorded(root)
    path = root / mlflow_store.ARTIFACTS / run.info.run_id / "artifacts" / "first_batch.png"
    assert path.read_bytes() == b"an image"


# -- several at once

WRITER = """
import sys
from pathlib import Path
from domix.runtime.tracking.mlflow_store import open_tracker
tracker = open_tracker(
    enabled=True, uri=None, root=Path(sys.argv[1]), experiment="domix", run_name=sys.argv[2], tags={},
    watch_machine=True,
)
for step in range(100):
    tracker.metrics({"loss": 1.0, "lr": 0.1}, step)
tracker.finish(succeeded=True)
"""


@pytest.mark.slow
def test_trainings_side_by_side_lose_nothing(root: Path) -> None:
    start(root).finish(succeeded=True)
    commands = [[sys.executable, "-c", WRITER, str(root), str(name)] for name in range(3)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert "fails" not in said
    runs = [run for run in recorded(root) if run.info.run_name != "cg-low-s0"]
    assert [history(root, run.info.run_id, "loss") for run in runs] == [list(range(100))] * 3
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_whoever_finds_the_store_locked_waits_and_writes_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow_tracker, "BUSY_WAITS_S", (0.0, 0.0, 0.0))
    said: list[Any] = []

    class Locked(Client):
        def log_batch(self, run_id: str, **entries: Any) -> None:
            self.calls += 1
            if self.calls < 3:
                raise OSError("(sqlite3.OperationalError) database is locked")
            said.append(entries)

    tracker = mlflow_tracker.MlflowTracker(Locked(), "run")
    tracker.metrics({"loss": 1.0}, 1)
    tracker.finish(succeeded=True)
    assert len(said) == 2
    assert not caplog.records


# -- the machine's load


def test_the_machines_load_is_recorded_and_its_thread_ends_with_the_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    tracker = start(root, watch_machine=True)
    limit = time.monotonic() + 60
    while not recorded(root)[0].data.metrics and time.monotonic() < limit:
        time.sleep(0.1)
    tracker.finish(succeeded=False)
    (run,) = recorded(root)
    kinds = ("cpu_utilization", "system_memory_usage", "disk_usage", "network_receive")
    assert all(any(name.startswith(f"system/{kind}") for name in run.data.metrics) for kind in kinds)
    assert run.info.status == "KILLED"
    assert not [thread for thread in threading.enumerate() if thread.name in ("SystemMetricsMonitor", "mlflow")]


def test_a_load_that_cannot_be_read_costs_one_warning(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(uri: str, run_id: str) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(system_metrics, "start", fail)
    with caplog.at_level(logging.WARNING, "domix"):
        tracker = start(root, watch_machine=True)
        tracker.metrics({"loss": 1.0}, 1)
        tracker.finish(succeeded=True)
    assert [record.getMessage() for record in caplog.records] == ["the machine's load is not recorded: no such thing"]
    assert recorded(root)[0].data.metrics == {"loss": 1.0}


def driver(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Put a command that answers so in the place of the driver's."""
    command = folder / system_metrics.COMMAND
    command.write_text(f"#!/bin/sh\n{answer}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_gpus_are_read_from_the_drivers_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver(tmp_path, monkeypatch, "echo '0, 97, 70000, 140000, 650.5'; echo '1, 3, 0, 140000, [N/A]'")
    assert system_metrics.read_gpus() == {
        "gpu_0_utilization_percentage": 97,
        "gpu_0_memory_usage_megabytes": pytest.approx(73400.32),
        "gpu_0_memory_usage_percentage": 50,
        "gpu_0_power_usage_watts": 650.5,
        "gpu_1_utilization_percentage": 3,
        "gpu_1_memory_usage_megabytes": 0,
        "gpu_1_memory_usage_percentage": 0,
    }


@pytest.mark.parametrize("answer", ["exit 9", "echo 'No devices were found'"])
def test_a_driver_that_does_not_answer_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: str
) -> None:
    driver(tmp_path, monkeypatch, f"echo asked >> {tmp_path}/log; {answer}")
    monitor = system_metrics._gpu_monitor()
    with caplog.at_level(logging.WARNING, "domix"):
        monitor.collect_metrics()
        monitor.collect_metrics()
    assert monitor.aggregate_metrics() == {}
    assert len(caplog.records) == 1
    assert (tmp_path / "log").read_text() == "asked\n"
