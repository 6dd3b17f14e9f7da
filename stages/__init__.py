"""The stages of the pipeline: one file each, run from the repository root as `python -m stages.<name>`.

DVC runs queued experiments in a copy of the repository. The library must then come from the copy too, not from the
place where it was installed, or an experiment on changed code would silently run the unchanged one.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from domix.project.signals import end_on_signals
from domix.project.threads import spin_briefly

end_on_signals()
spin_briefly()
