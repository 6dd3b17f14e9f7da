"""The stages of the pipeline: one file each, run from the repository root as `python -m stages.<name>`.

DVC runs queued experiments in a copy of the repository. The library must then come from the copy too, not from the place
where it was installed, or an experiment on changed code would silently run the unchanged one.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

# OpenMP's threads would otherwise spin while they wait for each other. Where something else runs on the machine, that
# costs a training most of its speed (ten times less was seen). Must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
