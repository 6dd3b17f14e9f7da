"""Signals that ask a stage to end: heeded from its first moment on, before it has imported anything large."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType

CUT_SHORT = 75
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # SIGUSR1: what SLURM is asked to send before a job's end


def end_on_signals() -> None:
    """End this process on a signal at once, with a sentence, where it was started as `python -m <package>.<module>`.

    To be called by the package, which comes before the module's own imports. Nothing has begun by then that would have
    to be unwound, and an exception in the midst of another package's import may be swallowed there. Who imports the
    package otherwise (tests, tools, worker processes) keeps its handlers.
    """
    if sys.argv[0] != "-m":  # which Python leaves there until it has found the module
        return
    for number in (*SIGNALS, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as of what a shell started in the background
            signal.signal(number, _end)


def heeded(number: int) -> str:
    """Return the sentence about a stop by a signal."""
    return f"stopped by {signal.Signals(number).name}; run it again to continue"


def _end(number: int, frame: FrameType | None) -> None:
    words = sys.orig_argv
    name = words[words.index("-m") + 1].rpartition(".")[2] if "-m" in words else Path(sys.argv[0]).stem
    os.write(sys.stderr.fileno(), f"{name}: {heeded(number)}\n".encode())
    os._exit(CUT_SHORT)
