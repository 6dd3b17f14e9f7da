"""How much memory this process may still take, and what becomes of what it frees."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import psutil

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
KEPT = 1 << 28  # bytes


def free_memory(proc: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that are free: of the machine, or of the least of the control groups that this process is in.

    A container or a batch system's job may have far less than the machine has (control groups of version 2).
    """
    free = psutil.virtual_memory().available
    for group in _groups(proc, groups):
        try:
            most = int((group / "memory.max").read_text())
            used = int((group / "memory.current").read_text())
            cache = _statistic(group / "memory.stat", "inactive_file")
        except (OSError, ValueError):  # no such file, or "max": no limit
            continue
        free = min(free, most - used + cache)
    return max(0, free)


def _groups(proc: Path, groups: Path) -> list[Path]:
    """Return the folders of this process's control group and of those that hold it."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return []
    inner = groups / own.lstrip("/")
    return [inner, *(parent for parent in inner.parents if parent.is_relative_to(groups))]


def _statistic(path: Path, name: str) -> int:
    lines = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
    return int(lines.get(name, 0))


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory, which it would else give back to the system and ask for again, page by page.

    Packing asks anew for every image, training on a CPU for every step's activations: it takes a fourth of their
    time. Other allocators are left as they are.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        mallopt(option, KEPT)
