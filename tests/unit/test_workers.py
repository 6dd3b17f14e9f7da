"""Worker processes: none outlives the process that it works for, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc

import psutil
import pytest

from domix.runtime.processes.workers import process_pool
from tests.tiny import REPOSITORY

ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "src")))}
GONE_S = 20.0  # on a busy machine; it takes a moment

POOL = """
import time
from domix.runtime.processes.workers import process_pool
if __name__ == "__main__":
    with process_pool(2) as pool:
        list(pool.map(abs, [1, 2]))
        {work}
        print("ready", flush=True)
        time.sleep(60)
"""
# Of each start method, as a library of others may ask for them.
WORKER = """
import multiprocessing, time
from domix.runtime.processes.workers import end_with_parent
def work(began):
    end_with_parent()
    began.set()
    time.sleep(60)
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    for _ in range(2):
        began = context.Event()
        context.Process(target=work, args=(began,)).start()
        began.wait()
    print("ready", flush=True)
    time.sleep(60)
"""
LOADER = """
import time
import torch
from domix.data.loading.prefetch import prefetched
from tests.unit.test_prefetch import Watched, batches_of
class Slow(Watched):
    def cut(self, rows, windows=None):
        if rows.tolist() != batches_of().rows(0).tolist():
            time.sleep(60)  # one that looks neither left nor right
        return super().cut(rows, windows)
with prefetched(batches_of(Slow()), workers=2, pin=False, ahead=False) as feed:
    next(iter(feed))
    print("ready", flush=True)
    time.sleep(60)
"""
SCRIPTS = {
    "an idle pool": POOL.format(work=""),
    "a busy pool": POOL.format(work="pool.map(time.sleep, [60] * 4)"),
    "spawned": WORKER.format(method="spawn"),
    "forked": WORKER.format(method="fork"),
    "of a fork server": WORKER.format(method="forkserver"),
    "decoding": LOADER,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_process_outlives_one_that_is_killed(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("killed") / "work.py"
    script.write_text(SCRIPTS[name])
    words = (sys.executable, script)
    with subprocess.Popen(words, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        others = psutil.Process(process.pid).children(recursive=True)
        assert len(others) >= 2
        process.send_signal(signal.SIGKILL)
    _, left = psutil.wait_procs(others, timeout=GONE_S)
    for other in left:
        other.kill()
    assert left == []


def test_a_worker_prepares_itself_and_ends_with_its_pool() -> None:
    with process_pool(1, tracemalloc.start) as pool:
        assert pool.submit(tracemalloc.is_tracing).result()
        worker = psutil.Process(pool.submit(os.getpid).result())
    assert psutil.wait_procs([worker], timeout=GONE_S)[1] == []
