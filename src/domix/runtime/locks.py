"""Locks between the processes of a machine."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def alone(path: Path, doing: str) -> Generator[None]:
    """Be the only process within this block that holds the lock `path`; log where that takes waiting.

    Args:
        path: of the lock; its folder must exist.
        doing: what the other process does, for the log.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("another process is %s: waiting for it (%s)", doing, path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
