"""How many threads libraries compute with, and how these wait for each other."""

import os
from collections.abc import Generator
from contextlib import contextmanager

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


@contextmanager
def limited_threads(count: int) -> Generator[None]:
    """Compute with `count` threads in this block, and in processes that it starts; 0: as the libraries decide.

    Their number moves last digits, which so are the same whatever else runs. And small arrays gain nothing from a
    second thread: it waits for most of its time, on a core that another analysis could use.
    """
    if not count:
        yield
        return
    before = {name: os.environ.pop(name, None) for name in COUNTS}
    os.environ.update(dict.fromkeys(COUNTS, str(count)))  # heeded by what is yet to be loaded
    try:
        with threadpool_limits(count):
            yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value
