"""Opening MLflow's store: created once, whoever comes first, and never in a training's way.

A store that cannot be opened costs one warning and the record, nothing else. A training that goes on after a stop goes
on with the same record, of which a file beside its saved states reminds it.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from domix.runtime.files import write_text
from domix.runtime.tracking.mlflow_tracker import MlflowTracker, first_line
from domix.runtime.tracking.registry import Registry
from domix.runtime.tracking.tracker import NullTracker, Tracker

DATABASE, ARTIFACTS, LOCK = "mlflow.db", "mlartifacts", "mlflow.db.lock"
SERVER_TIMEOUT_S = 3.0
LOCK_TIMEOUT_S = 120.0  # creating the database takes some ten seconds on a slow machine
BUSY_TIMEOUT_S = 60  # a writer waits for another

logger = logging.getLogger(__name__)


def open_tracker(
    *,
    enabled: bool,
    uri: str | None,
    root: Path,
    experiment: str,
    run_name: str,
    tags: Mapping[str, str],
    reminder: Path | None = None,
    watch_machine: bool = False,
    registry: Registry | None = None,
) -> Tracker:
    """Start the record of a run, or go on with it.

    Where no `uri` of an MLflow store is given, it is a SQLite file in the folder `root`. A store that cannot be reached
    gives one warning and a tracker that records nothing.

    Args:
        reminder: file that names the run; the record is gone on with where it names one of this store.
        watch_machine: record the load of processors, memory, disk, network and GPUs.
        registry: where and how published models are kept.
    """
    if not enabled:
        return NullTracker()
    try:
        _require_answer(uri)
        with _quiet():
            client, experiment_id = _open_store(uri, root.resolve(), experiment)
            old = _interrupted_run(client, experiment_id, reminder)
            if old is None:
                run_id = client.create_run(experiment_id, run_name=run_name, tags=dict(tags)).info.run_id
            else:
                run_id = old
                client.update_run(old, status="RUNNING")
            if reminder is not None:
                write_text(reminder, run_id)
        resumed = old is not None
        return MlflowTracker(client, run_id, resumed=resumed, watch_machine=watch_machine, registry=registry)
    except Exception as error:
        logger.warning("MLflow cannot be used, work goes on without a record: %s", first_line(error))
        return NullTracker()


def _open_store(uri: str | None, root: Path, experiment: str) -> tuple[Any, str]:
    """Return a client and the experiment's id, creating database and experiment once, whoever comes first."""
    from mlflow import MlflowClient

    from domix.runtime.locks import alone

    local = uri is None
    root.mkdir(parents=True, exist_ok=True)
    with alone(root / LOCK, "opening MLflow's database", timeout_s=LOCK_TIMEOUT_S):
        client = MlflowClient(tracking_uri=_own_database(root) if local else uri)
        found = client.get_experiment_by_name(experiment)
        if found is not None:
            return client, found.experiment_id
        location = (root / ARTIFACTS).as_uri() if local else None
        return client, client.create_experiment(experiment, artifact_location=location)


def _own_database(root: Path) -> str:
    """Return the address of the database in a folder, whatever its path holds (`?`, `%20`).

    SQLAlchemy decodes it; MLflow would make the folders of a path that begins with `sqlite:///` as it is spelled there.
    """
    return f"sqlite+pysqlite:///{quote(str(root / DATABASE))}?timeout={BUSY_TIMEOUT_S}"


def _interrupted_run(client: Any, experiment_id: str, reminder: Path | None) -> str | None:
    """Return the run that the file `reminder` names, if the store has it."""
    from mlflow.exceptions import MlflowException

    if reminder is None or not reminder.is_file():
        return None
    run_id = reminder.read_text(encoding="utf-8")
    try:
        info = client.get_run(run_id).info
    except MlflowException:
        return None
    return run_id if (info.lifecycle_stage, info.experiment_id) == ("active", experiment_id) else None


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
