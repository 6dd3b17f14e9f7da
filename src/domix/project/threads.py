"""How many threads libraries compute with, and how these wait for each other."""

import os

from threadpoolctl import threadpool_limits

COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def spin_briefly() -> None:
    """Let OpenMP's threads that wait spin for microseconds, then sleep; what the user has set stands.

    To be called before torch is imported.
    They spin for long by default: quick on an idle machine, ruinous where something else runs, too (two threads on two
    busy cores: a twentieth of the speed of one).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")


def limit_threads(count: int) -> None:
    """Compute with `count` threads from now on, in this process and those that it starts; 0: as the libraries decide.

    Their number moves last digits, which so are the same whatever else runs. And small arrays gain nothing from a
    second thread: it waits for most of its time, on a core that another analysis could use.
    """
    if count:
        os.environ.update(dict.fromkeys(COUNTS, str(count)))  # heeded by what is yet to be loaded
        threadpool_limits(count)
