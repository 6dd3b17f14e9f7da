"""The terminal's line about long work on files: how many, how much, how fast, how long yet."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from domix.runtime.progress import Progress, Report

LOG_EVERY = 30.0  # seconds between lines where stderr is a file


@contextmanager
def progress_line(title: str) -> Generator[Report]:
    """Yield a callback that keeps one line on stderr up to date; where that is a file, adds a line now and then."""
    bar = tqdm(bar_format="{desc}", leave=True, mininterval=0, disable=not sys.stderr.isatty())
    last = monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        line = describe(title, progress)
        bar.set_description_str(line)
        if bar.disable and monotonic() - last > LOG_EVERY:
            last = monotonic()
            print(line, file=sys.stderr, flush=True)

    try:
        with logging_redirect_tqdm():  # lines of the log go above the bar
            yield show
    finally:
        bar.close()


def describe(title: str, progress: Progress) -> str:
    """Say in one line how far work has come."""
    left = progress.seconds_left
    parts = [
        f"{progress.files_done}/{progress.files} files",
        _amount(progress.bytes_done, progress.bytes_total),
        f"{progress.rate / 1e6:.1f} MB/s",
    ]
    if left is not None and progress.files_done < progress.files:
        parts.append(f"{tqdm.format_interval(left)} left")
    return f"{title}: {', '.join(parts)}"


def _amount(done: int, total: int) -> str:
    unit, name = (1e9, "GB") if total >= 1e9 else (1e6, "MB")
    return f"{done / unit:.2f} of {total / unit:.2f} {name}"
