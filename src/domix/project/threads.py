"""How OpenMP's threads wait for each other: to be settled before torch is imported."""

import os


def spin_briefly() -> None:
    """Let threads that wait spin for microseconds, then sleep; what the user has set stands.

    They spin for long by default: quick on an idle machine, ruinous where something else runs, too (two threads on two
    busy cores: a twentieth of the speed of one).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
