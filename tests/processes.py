"""What tests of real processes share: waiting for them, and standing in for torchrun."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable

import torch


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str], seconds: float = 240) -> None:
    """Wait until something has happened; fail with what `process` said if it ends before, or time is up."""
    limit = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "it never happened"
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def become_one_of_two(rank: int, port: int) -> None:
    """Make this process what torchrun makes of one of two, with a thread of its own."""
    os.environ |= {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
