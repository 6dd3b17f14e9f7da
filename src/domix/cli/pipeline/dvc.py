"""DVC as a command that is run and ended in good order."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from domix.runtime.slots import Command, Runner, Slot, Verdict

DVC = (sys.executable, "-m", "domix.cli.pipeline.atomic_dvc")
WHOLE_MACHINE = (Slot("whole machine"),)


def environment() -> dict[str, str]:
    """Return the environment in which DVC runs stages: `python` is this one."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_NO_ANALYTICS": "true",
    }


def run_dvc(folder: Path, *arguments: str, stopping: Callable[[], bool]) -> int:
    """Run DVC in a repository, on this terminal, and return its exit code; negative: the signal that killed it.

    Once `stopping()` is true, what it runs is interrupted, and it ends; what a killed one leaves running ends, too.
    """
    command = Command("dvc", (*DVC, *arguments), folder, log=None)
    runner = Runner(
        [command], WHOLE_MACHINE, environment=environment(), judge=lambda code, said: Verdict.FAILED, retries=0
    )
    runner.run(stopping=stopping)
    (job,) = runner.jobs
    assert job.code is not None or stopping()
    return job.code or 0
