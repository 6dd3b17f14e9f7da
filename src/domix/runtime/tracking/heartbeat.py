"""How far a training has come, in a small file that whoever started it may read at any time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domix.runtime.errors import DataError, DomixError
from domix.runtime.files import read_json, write_json
from domix.runtime.tracking.tracker import NullTracker

EVERY_S = 1.0  # seconds between two versions of the file, at least
SHOWN = ("loss", "samples_per_s")


class Heartbeat(NullTracker):
    """Keeps the newest row of the log in a JSON file: step, steps in all, loss, rate, time."""

    def __init__(self, path: Path, *, every_s: float = EVERY_S) -> None:
        """Keep `path` up to date, at most every so many seconds."""
        self.path, self.every_s = path, every_s
        self._row: dict[str, Any] = {}
        self._written = float("-inf")

    def params(self, values: Mapping[str, Any]) -> None:
        """Note how long the training is."""
        self._row |= {key: values[key] for key in ("steps", "batch") if key in values}
        self._write()

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Note a row of the log; other measurements are let pass."""
        if "samples_per_s" in values:
            self._row |= {"step": step} | {key: values[key] for key in SHOWN}
            if time.monotonic() - self._written >= self.every_s:
                self._write()

    def finish(self, *, succeeded: bool) -> None:
        """Write the last row."""
        self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        try:
            write_json(self.path, self._row | {"time": round(time.time(), 1)})
        except (DomixError, OSError, ValueError):  # a full disk; a loss that is no number: not worth a training
            return


def read_heartbeat(path: Path) -> dict[str, Any]:
    """Return what a heartbeat file says; nothing where there is none yet."""
    try:
        return read_json(path)
    except DataError:
        return {}
