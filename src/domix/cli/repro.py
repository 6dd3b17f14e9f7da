"""`domix repro`: the study of params.yaml, as many runs at a time as the machine has room for, then its answer.

What DVC would do in `dvc repro`, one stage after the other, with the same outputs: in the repository itself, by the
machinery of `domix sweep`. With targets or options of DVC's own it is `dvc repro` and no more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from domix.cli import sweep
from domix.cli.headline import headline
from domix.cli.sweeps.conductor import outdated
from domix.cli.sweeps.plan import DVC
from domix.settings.params import Params


def main(params: Params, words: Sequence[str]) -> None:
    """Bring the study up to date, and print its answer; `words` are handed to `dvc repro`, if there are any.

    Raises:
        DomixError: parts failed, which are named, or the same command is running.
        Interrupted: a signal came; the same command goes on.
    """
    if words:
        code = subprocess.run([*DVC, "repro", *words], check=False).returncode
        if code:
            sys.exit(code)
    elif outdated(Path.cwd(), [], os.environ) == set():
        print("Everything is up to date.")
    else:
        sweep.main(params, sweep.Asked())
    print(headline(Path.cwd()))
