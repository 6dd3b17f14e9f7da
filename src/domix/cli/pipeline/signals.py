"""Signals that end a command which runs others: they are collected, and the others ended in good order."""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def collected() -> Generator[list[signal.Signals]]:
    """Yield a list of the signals that have come within this block, instead of dying from them."""
    caught: list[signal.Signals] = []
    former = {number: signal.signal(number, lambda n, _: caught.append(signal.Signals(n))) for number in SIGNALS}
    try:
        yield caught
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
