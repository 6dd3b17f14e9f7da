"""Records of runs in MLflow, which never stand in a training's way.

A `Tracker` takes parameters, metrics and an end. MLflow's is told everything by a thread of its own, so that a slow
disk or server costs no training time; a store that cannot be opened, or fails later, costs one warning and the record,
nothing else. Several processes may open one store at once: it is created under a lock.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

DATABASE, ARTIFACTS, LOCK = "mlflow.db", "mlartifacts", "mlflow.db.lock"
SERVER_TIMEOUT_S = 3.0
DRAIN_TIMEOUT_S = 30.0
LOCK_TIMEOUT_S = 120.0  # creating the database takes some ten seconds on a slow machine

logger = logging.getLogger(__name__)


class Tracker(Protocol):
    """What a run tells about itself."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, each once."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers as of `step`."""

    def finish(self, *, succeeded: bool) -> None:
        """Close the record."""


class NullTracker:
    """Records nothing."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def finish(self, *, succeeded: bool) -> None:
        """Do nothing."""


class MlflowTracker:
    """Records one run in MLflow, from a thread."""

    def __init__(self, client: Any, run_id: str) -> None:
        """Write to run `run_id` through an `mlflow.MlflowClient`."""
        self.client, self.run_id = client, run_id
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._broken = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, each once."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)) for key, value in values.items()]
        self._queue.put(lambda: self.client.log_batch(self.run_id, params=entries))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers as of `step`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, step) for key, value in values.items()]
        self._queue.put(lambda: self.client.log_batch(self.run_id, metrics=entries))

    def finish(self, *, succeeded: bool) -> None:
        """Close the record, and wait a while for what is still to be written."""
        status = "FINISHED" if succeeded else "KILLED"
        self._queue.put(lambda: self.client.set_terminated(self.run_id, status=status))
        self._queue.put(None)
        self._thread.join(DRAIN_TIMEOUT_S)
        if self._thread.is_alive():
            logger.warning("MLflow does not answer; the run's record is incomplete")

    def _work(self) -> None:
        while (write := self._queue.get()) is not None:
            if self._broken:
                continue
            try:
                write()
            except Exception as error:
                self._broken = True
                logger.warning("MLflow fails, training goes on without a record: %s", _first_line(error))


def open_tracker(
    *,
    enabled: bool,
    uri: str | None,
    root: Path,
    experiment: str,
    run_name: str,
    tags: Mapping[str, str],
) -> Tracker:
    """Start the record of a run.

    Where no `uri` of an MLflow store is given, it is a SQLite file in the folder `root`. A store that cannot be reached
    gives one warning and a tracker that records nothing.
    """
    if not enabled:
        return NullTracker()
    try:
        _require_answer(uri)
        with _quiet():
            client, experiment_id = _open_store(uri, root.resolve(), experiment)
            run = client.create_run(experiment_id, run_name=run_name, tags=dict(tags))
        return MlflowTracker(client, run.info.run_id)
    except Exception as error:
        logger.warning("MLflow cannot be used, training goes on without a record: %s", _first_line(error))
        return NullTracker()


def _open_store(uri: str | None, root: Path, experiment: str) -> tuple[Any, str]:
    """Return a client and the experiment's id, creating database and experiment once, whoever comes first."""
    from filelock import FileLock
    from mlflow import MlflowClient

    local = uri is None
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / LOCK, timeout=LOCK_TIMEOUT_S):
        client = MlflowClient(tracking_uri=f"sqlite:///{root / DATABASE}" if local else uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            return client, found.experiment_id
        location = (root / ARTIFACTS).as_uri() if local else None
        return client, client.create_experiment(experiment, artifact_location=location)


def _require_answer(uri: str | None) -> None:
    """Ask for a connection before MLflow does, which would try again for minutes."""
    parts = urlsplit(uri or "")
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=SERVER_TIMEOUT_S).close()


@contextlib.contextmanager
def _quiet() -> Any:
    """Keep the migrations of a new database out of the output."""
    noisy = [logging.getLogger(name) for name in ("alembic", "mlflow")]
    levels = [chatter.level for chatter in noisy]
    for chatter in noisy:
        chatter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for chatter, level in zip(noisy, levels, strict=True):
            chatter.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
