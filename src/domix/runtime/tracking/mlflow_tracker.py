"""The record of one run in MLflow, written by a thread of its own.

A slow disk or server so costs no training time, and a store that fails costs one warning and the rest of the record.
Trainings side by side write to one SQLite file: whoever finds it locked waits. What the run knows already, from before
a stop, is not written again.
"""

from __future__ import annotations

import json
import logging
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from domix.runtime.tracking import system_metrics
from domix.runtime.tracking.registry import Registry, register

DRAIN_TIMEOUT_S = 30.0
MODEL_TIMEOUT_S = 600.0  # for copying a model into the store
WEIGHTS, STUDY, PARENT = "weights_sha256", "study", "mlflow.parentRunId"  # tags of runs
BUSY = "database is locked"  # said at once, where SQLite sees that waiting could last for ever
BUSY_WAITS_S = (0.1, 0.3, 1.0, 3.0, 10.0)

logger = logging.getLogger(__name__)


class MlflowTracker:
    """Records one run in MLflow, from a thread."""

    def __init__(
        self,
        client: Any,
        run_id: str,
        *,
        resumed: bool = False,
        watch_machine: bool = False,
        registry: Registry | None = None,
    ) -> None:
        """Write to run `run_id` through an `mlflow.MlflowClient`; one that is `resumed` knows something already."""
        self.client, self.run_id, self.registry = client, run_id, registry
        # parameters; the last step of each metric; None: to be asked for
        self._known: tuple[set[str], dict[str, int]] | None = None if resumed else (set(), {})
        self._monitor: Any = None
        self._broken = False
        self._patience = DRAIN_TIMEOUT_S
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()
        if watch_machine:
            self._queue.put(self._watch)

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, each once."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)) for key, value in values.items()]
        self._queue.put(lambda: self._log_params(entries))

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers as of `step`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        entries = [Metric(key, float(value), now, step) for key, value in values.items()]
        self._queue.put(lambda: self._log_metrics(entries))

    def file(self, name: str, content: bytes) -> None:
        """Keep a small file."""
        self._queue.put(lambda: self._keep(name, content))

    def model(self, folder: Path) -> None:
        """Name the run's weights; keep the model folder and register it, where there is a registry."""
        self._queue.put(lambda: self._name_weights(folder))
        if self.registry is not None:
            self._patience = DRAIN_TIMEOUT_S + MODEL_TIMEOUT_S
            self._queue.put(lambda: self._register(folder))

    def adopt(self, weights: str, values: Mapping[str, float]) -> None:
        """Make the run that ended in these weights a part of this one: nested in it, with its results and its model."""
        kept = dict(values)
        self._queue.put(lambda: self._adopt(weights, kept))

    def finish(self, *, succeeded: bool) -> None:
        """Close the record, and wait a while for what is still to be written."""
        status = "FINISHED" if succeeded else "KILLED"
        self._queue.put(self._unwatch)
        self._queue.put(lambda: self.client.set_terminated(self.run_id, status=status))
        self._queue.put(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            logger.warning("MLflow does not answer; the run's record is incomplete")

    # -- in the thread

    def _work(self) -> None:
        while (write := self._queue.get()) is not None:
            if self._broken:
                continue
            try:
                _insist(write)
            except Exception as error:
                self._broken = True
                logger.warning("MLflow fails, work goes on without a record: %s", first_line(error))
                self._unwatch()

    def _recall(self) -> tuple[set[str], dict[str, int]]:
        if self._known is None:
            known = self.client.get_run(self.run_id).data
            last = {key: self.client.get_metric_history(self.run_id, key)[-1].step for key in known.metrics}
            self._known = set(known.params), last
        return self._known

    def _log_params(self, entries: list[Any]) -> None:
        fresh = [param for param in entries if param.key not in self._recall()[0]]
        self.client.log_batch(self.run_id, params=fresh)

    def _log_metrics(self, entries: list[Any]) -> None:
        last = self._recall()[1]
        fresh = [metric for metric in entries if metric.step > last.get(metric.key, -1)]
        if fresh:
            self.client.log_batch(self.run_id, metrics=fresh)

    def _keep(self, name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(content)
            self.client.log_artifact(self.run_id, str(path))

    def _register(self, folder: Path) -> None:
        assert self.registry is not None
        try:
            register(self.client, self.run_id, folder, self.registry)
        except Exception as error:
            logger.warning("the model is not registered in MLflow: %s", first_line(error))

    def _name_weights(self, folder: Path) -> None:
        done = folder / "done.json"
        if done.is_file():
            self.client.set_tag(self.run_id, WEIGHTS, json.loads(done.read_text(encoding="utf-8"))[WEIGHTS])

    def _adopt(self, weights: str, values: Mapping[str, float]) -> None:
        from mlflow.entities import LoggedModelInput, Metric, RunTag

        own = self.client.get_run(self.run_id)
        found = self.client.search_runs(
            [own.info.experiment_id], f"tags.{WEIGHTS} = '{weights}'", max_results=1, order_by=["start_time DESC"]
        )
        if not found:
            return  # trained without a record, or elsewhere
        models = [output.model_id for output in found[0].outputs.model_outputs] if found[0].outputs else []
        now, model = int(time.time() * 1000), models[0] if models else None
        metrics = [Metric(key, float(value), now, 0, model_id=model) for key, value in values.items()]
        tags = [RunTag(PARENT, self.run_id)] + [RunTag(STUDY, own.data.tags[STUDY])] * (STUDY in own.data.tags)
        self.client.log_batch(found[0].info.run_id, metrics=metrics, tags=tags)
        if model is not None:
            self.client.log_inputs(self.run_id, models=[LoggedModelInput(model)])

    def _watch(self) -> None:
        try:
            self._monitor = system_metrics.start(self.client.tracking_uri, self.run_id)
        except Exception as error:
            logger.warning("the machine's load is not recorded: %s", first_line(error))

    def _unwatch(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()
            self._monitor = None


def _insist(write: Callable[[], None]) -> None:
    """Write, again after a while where another process is writing."""
    for seconds in BUSY_WAITS_S:
        try:
            return write()
        except Exception as error:
            if BUSY not in str(error):
                raise
            time.sleep(seconds)
    return write()


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, which may be a page."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
