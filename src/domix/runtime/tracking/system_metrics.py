"""The load of the machine, recorded in MLflow by its own monitor while a run lasts.

MLflow reads NVIDIA's GPUs through a package that is not among ours; the driver's own command says the same.
"""

from __future__ import annotations

import csv
import logging
import shutil
import subprocess
from typing import Any

COMMAND = "nvidia-smi"
FIELDS = {  # of the command, and MLflow's names for them
    "index": "",
    "utilization.gpu": "utilization_percentage",
    "memory.used": "memory_usage_megabytes",
    "memory.total": "",
    "power.draw": "power_usage_watts",
}
PATIENCE_S = 10.0
MIB = 1.048576  # megabytes

logger = logging.getLogger(__name__)


def start(uri: str, run_id: str) -> Any:
    """Start a thread that records the load every ten seconds (MLflow's settings may say otherwise).

    Returns MLflow's monitor, whose `finish` stops the thread.
    """
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=uri)
    if not any("gpu" in type(one).__name__.lower() for one in monitor.monitors) and shutil.which(COMMAND):
        monitor.monitors.append(_gpu_monitor())
    monitor.start()
    return monitor


def _gpu_monitor() -> Any:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

    class GpuMonitor(BaseMetricsMonitor):
        """Asks the driver's command; once it fails, it is not asked again."""

        answers = True

        def collect_metrics(self) -> None:
            """Read the load of every GPU."""
            try:
                for key, value in read_gpus().items() if self.answers else ():
                    self._metrics[key].append(value)
            except (OSError, subprocess.SubprocessError, ValueError) as error:
                self.answers = False
                logger.warning("the GPUs' load is not recorded: %s", error)

        def aggregate_metrics(self) -> dict[str, float]:
            """Return the means since the last row."""
            return {key: round(sum(values) / len(values), 1) for key, values in self._metrics.items()}

    return GpuMonitor()


def read_gpus() -> dict[str, float]:
    """Return what the driver says of each GPU, by MLflow's names; a number that it does not have is left out.

    Raises:
        OSError, subprocess.SubprocessError, ValueError: the command is missing, fails or says something else.
    """
    command = [COMMAND, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
    load: dict[str, float] = {}
    for row in csv.reader(said.splitlines(), skipinitialspace=True):
        values = dict(zip(FIELDS, row, strict=True))
        gpu = f"gpu_{int(values['index'])}_"
        numbers = {key: float(text) for key, text in values.items() if text.replace(".", "", 1).isdigit()}
        for key, name in FIELDS.items():
            if name and key in numbers:
                load[gpu + name] = numbers[key] * (MIB if "memory" in key else 1)
        if numbers.get("memory.total") and "memory.used" in numbers:
            load[gpu + "memory_usage_percentage"] = round(100 * numbers["memory.used"] / numbers["memory.total"], 1)
    return load
