"""Measure the study view: five test domains x six mixtures x three seeds with seven checkpoints, from made-up tables.

    python -m tools.bench_study

The command runs as a user runs it, in a process of its own: its start, and its peak memory, are counted.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.made_study import ROOT, Asked, make_sweep

TARGET_S = 60.0


def main() -> None:
    """Make the tables, collect them, and say how long that took."""
    with tempfile.TemporaryDirectory(prefix="domix-bench-") as folder:
        root = Path(folder)
        asked = Asked()
        make_sweep(root, asked)
        (root / "params.yaml").write_bytes((ROOT / "presets" / "mini.yaml").read_bytes())
        started = time.perf_counter()
        command = (sys.executable, "-m", "domix", "study", "--sweep", "made")
        subprocess.run(
            command,
            cwd=root,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
            check=True,
            capture_output=True,
        )
        seconds = time.perf_counter() - started
        files = [path for path in (root / "artifacts" / "study").rglob("*") if path.is_file()]
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    size = f"{len(asked.test_domains)} x {len(asked.mixtures)} x {len(asked.seeds)} runs"
    print(f"  study view of {size}: {len(files)} files in {seconds:.1f} s, {memory:.2f} GB (target: {TARGET_S:.0f} s)")


if __name__ == "__main__":
    main()
