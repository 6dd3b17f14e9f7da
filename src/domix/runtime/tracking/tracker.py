"""What a run tells about itself while it goes on, whoever listens: MLflow, TensorBoard, a terminal, nobody."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Listens to one run. It must cost the run next to no time, and nothing that goes wrong in it may stop the run."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, each once."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers as of `step`; a run that goes on after a stop tells those from before the stop again."""

    def file(self, name: str, content: bytes) -> None:
        """Keep a small file."""

    def model(self, folder: Path) -> None:
        """Keep a model folder, which stays as it is until `finish` returns."""

    def adopt(self, weights: str, values: Mapping[str, float]) -> None:
        """Make the run that ended in the weights of this SHA-256 a part of this one, and note what they are worth."""

    def finish(self, *, succeeded: bool) -> None:
        """Close the record."""


class NullTracker:
    """Records nothing; a tracker of some of it overrides what it records."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Do nothing."""

    def file(self, name: str, content: bytes) -> None:
        """Do nothing."""

    def model(self, folder: Path) -> None:
        """Do nothing."""

    def adopt(self, weights: str, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def finish(self, *, succeeded: bool) -> None:
        """Do nothing."""


class Trackers:
    """Tells several trackers the same."""

    def __init__(self, *trackers: Tracker) -> None:
        """Tell them in this order."""
        self.trackers = trackers

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters, each once."""
        for tracker in self.trackers:
            tracker.params(values)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers as of `step`."""
        for tracker in self.trackers:
            tracker.metrics(values, step)

    def file(self, name: str, content: bytes) -> None:
        """Keep a small file."""
        for tracker in self.trackers:
            tracker.file(name, content)

    def model(self, folder: Path) -> None:
        """Keep a model folder."""
        for tracker in self.trackers:
            tracker.model(folder)

    def adopt(self, weights: str, values: Mapping[str, float]) -> None:
        """Make another run a part of this one."""
        for tracker in self.trackers:
            tracker.adopt(weights, values)

    def finish(self, *, succeeded: bool) -> None:
        """Close the records."""
        for tracker in self.trackers:
            tracker.finish(succeeded=succeeded)
