"""A study: which domain and classes are held out, and which runs there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from domix.runtime.errors import DataError
from domix.runtime.files import read_json


@dataclass(frozen=True)
class Run:
    """One trained model."""

    kind: str
    mixture: str
    seed: int

    @property
    def name(self) -> str:
        """The name of its folders."""
        return f"{self.mixture}-s{self.seed}"


@dataclass(frozen=True)
class Study:
    """What a study asks, and of which runs; `classes` stand in label order."""

    test_domain: str
    natural_domain: str
    domains: tuple[str, ...]
    classes: tuple[str, ...]
    test_classes: tuple[str, ...]
    runs: tuple[Run, ...]


def read_study(summary_path: Path, runs: Sequence[Run]) -> Study:
    """Read a study from the mixtures' `summary.json`.

    Raises:
        DataError: the file is missing or damaged.
    """
    summary = read_json(summary_path)
    try:
        return Study(
            test_domain=summary["test_domain"],
            natural_domain=summary["natural_domain"],
            domains=tuple(summary["domains"]),
            classes=tuple(summary["classes"]),
            test_classes=tuple(summary["test_classes"]),
            runs=tuple(runs),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{summary_path} lacks {error}: delete it and run dvc repro") from error
