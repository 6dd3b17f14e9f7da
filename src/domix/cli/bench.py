"""`domix bench`: measurements of a clone of Domix; what they measure and what they need: docs/performance.md."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from domix.runtime.errors import ParameterError

WHAT = ("circuits", "data", "embed", "evaluate", "mechanisms", "ood", "probe", "signature", "study", "train", "zoo")


def main(root: Path, what: str, options: Sequence[str]) -> int:
    """Run one of the clone's measurements; return its exit code.

    Raises:
        ParameterError: there is no such measurement, or `root` is no clone.
    """
    if what not in WHAT:
        raise ParameterError(f"there is no bench {what!r}, but {', '.join(WHAT)}")
    if not (root / "tools" / f"bench_{what}.py").exists():
        raise ParameterError(f"{root} has no tools/bench_{what}.py: run this in the root of a clone of Domix")
    return subprocess.run([sys.executable, "-m", f"tools.bench_{what}", *options], cwd=root, check=False).returncode
