"""Locks between the processes of a machine. The system frees them when their holder ends, however it ends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from pathlib import Path

from filelock import FileLock, Timeout

from domix.runtime.errors import DomixError
from domix.runtime.files import explain

WAIT_FOREVER = -1.0

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def alone(path: Path, doing: str, *, timeout_s: float = WAIT_FOREVER) -> Generator[None]:
    """Be the only process within this block that holds the lock `path`; log where that takes waiting.

    Args:
        path: of the lock; its folder must exist.
        doing: what the other process does, for the log.
        timeout_s: seconds to wait at most.

    Raises:
        filelock.Timeout: that was not enough.
        DomixError: the lock cannot be written.
    """
    lock = FileLock(path)
    with explain(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("another process is %s: waiting for it (%s)", doing, path)
            lock.acquire(timeout=timeout_s, poll_interval=0.2)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def only_one(path: Path, busy: str) -> Generator[None]:
    """Be the only process within this block that holds the lock `path`, whose folder must exist.

    Raises:
        DomixError: another holds it, which `busy` says; or the lock cannot be written.
    """
    lock = FileLock(path, timeout=0)
    with explain(path):
        try:
            lock.acquire()
        except Timeout:
            raise DomixError(busy) from None
    try:
        yield
    finally:
        lock.release()


def is_free(path: Path) -> bool:
    """Tell whether no process holds the lock `path`."""
    if not path.exists():
        return True
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False
