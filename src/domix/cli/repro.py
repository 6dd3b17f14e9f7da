"""`domix repro`: the study of params.yaml, as many runs at a time as the machine has room for, then its answer.

What DVC would do in `dvc repro`, one stage after the other, with the same outputs: in the repository itself, by the
machinery of `domix sweep`. With targets or options of DVC's own it is `dvc repro`. Either way with a dvc.lock that
survives kills; Ctrl-C, SIGTERM and SIGHUP let what runs save its state, and the same command goes on.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

from domix.cli import sweep
from domix.cli.headline import headline
from domix.cli.pipeline.dvc import environment, run_dvc
from domix.cli.pipeline.lock_file import guarded, mend
from domix.cli.pipeline.signals import collected
from domix.cli.sweeps.conductor import outdated
from domix.project.common import ARTIFACTS
from domix.runtime.errors import Interrupted
from domix.settings.params import Params


def main(params: Params, root: Path, words: Sequence[str]) -> int:
    """Bring the study up to date, print its answer, and return 0; or hand `words` to `dvc repro` and return its code.

    Raises:
        DomixError: parts failed, which are named; the pipeline is running there already; dvc.lock is in the midst of a
            merge.
        Interrupted: a signal came, or DVC was killed.
    """
    if words:
        return _plain(root, words)
    mend(root)
    if (root / ARTIFACTS).exists() and outdated(root, [], environment()) == set():  # asking takes DVC seconds
        print("Everything is up to date.")
    else:
        sweep.main(params, sweep.Asked())
    print(headline(root))
    return 0


def _plain(root: Path, words: Sequence[str]) -> int:
    with guarded(root), collected() as signals:
        code = run_dvc(root, "repro", *words, stopping=lambda: bool(signals))
    if signals or code < 0:
        name = signals[0].name if signals else signal.Signals(-code).name
        raise Interrupted(f"stopped by {name}; the same command goes on from here")
    if code == 0 and all(word.startswith("-") for word in words):
        print(headline(root))
    return code
