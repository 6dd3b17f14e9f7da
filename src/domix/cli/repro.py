"""`domix repro`: the whole pipeline, or what is named of it, with a dvc.lock that survives kills; then the answer.

Ctrl-C, SIGTERM and SIGHUP let the stage that runs save its state. The same command goes on.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from domix.cli.headline import headline
from domix.cli.pipeline.dvc import run_dvc
from domix.cli.pipeline.lock_file import guarded
from domix.cli.pipeline.signals import collected
from domix.runtime.errors import Interrupted


def main(root: Path, arguments: Sequence[str]) -> int:
    """Run `dvc repro` with some arguments in a repository, and return its exit code; print the answer of a whole run.

    Raises:
        Interrupted: a signal came, or DVC was killed.
        DomixError: the pipeline is running there already, or dvc.lock is in the midst of a merge.
    """
    with guarded(root), collected() as signals:
        code = run_dvc(root, "repro", *arguments, stopping=lambda: bool(signals))
    if signals or code < 0:
        name = signals[0].name if signals else signal.Signals(-code).name
        raise Interrupted(f"stopped by {name}; the same command goes on from here")
    if code == 0 and all(argument.startswith("-") for argument in arguments):
        print(headline(root))
    return code
