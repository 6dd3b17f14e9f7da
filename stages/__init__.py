"""The stages of the pipeline: one file each, run from the repository root as `python -m stages.<name>`.

DVC runs queued experiments in a copy of the repository. The library must then come from the copy too, not from the
place where it was installed, or an experiment on changed code would silently run the unchanged one.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

# OpenMP's threads spin while they wait for each other: quick on an idle machine, ruinous where something else runs, too
# (two threads on two busy cores: a twentieth of the speed of one). So they spin for microseconds, then sleep. To be set
# before torch is imported; what the user has set stands.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
