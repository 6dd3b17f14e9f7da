"""How far long work on files has come: counted by many threads, told to one callback a few times a second."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

EVERY = 0.2  # seconds between two reports
WINDOW = 10.0  # seconds over which the rate is measured


@dataclass(frozen=True)
class Progress:
    """How far work on some files has come.

    Attributes:
        files_done, files: how many are finished, of how many.
        bytes_done, bytes_total: the same in bytes; the total counts only files of known size.
        rate: bytes a second during the last few seconds.
    """

    files_done: int
    files: int
    bytes_done: int
    bytes_total: int
    rate: float

    @property
    def seconds_left(self) -> float | None:
        """Return the time that the rest takes at the present rate; None while the rate is 0."""
        return max(0, self.bytes_total - self.bytes_done) / self.rate if self.rate > 0 else None


Report = Callable[[Progress], None]


class Meter:
    """Counts the bytes of several files; every method may be called from any thread."""

    def __init__(
        self, sizes: Mapping[str, int | None], report: Report | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start at nothing done.

        Args:
            sizes: file -> bytes, None if not known yet.
            report: told now and then; None: nobody is.
            clock: seconds from any origin.
        """
        self._sizes, self._report, self._clock = dict(sizes), report, clock
        self._bytes: dict[str, int] = dict.fromkeys(sizes, 0)
        self._finished: set[str] = set()
        self._moved = 0  # bytes in all, those done twice included
        self._marks = deque([(clock(), 0)])
        self._last = float("-inf")
        self._lock = threading.Lock()

    def size(self, file: str, total: int | None) -> None:
        """Note a file's size once it is known."""
        with self._lock:
            self._sizes[file] = total

    def restart(self, file: str, done: int) -> None:
        """Set what is done of a file without counting it as work of now."""
        with self._lock:
            self._bytes[file] = done

    def advance(self, file: str, count: int) -> None:
        """Count bytes of a file."""
        with self._lock:
            self._bytes[file] += count
            self._moved += count
            self._tell()

    def finish(self, file: str, size: int) -> None:
        """Count a file as finished."""
        with self._lock:
            self._bytes[file] = self._sizes[file] = size
            self._finished.add(file)
            self._tell(always=True)

    def tick(self) -> None:
        """Tell that nothing has happened, if nothing has: the rate falls."""
        with self._lock:
            self._tell()

    def _tell(self, always: bool = False) -> None:
        now = self._clock()
        if self._report is None or (now - self._last < EVERY and not always):
            return
        self._last = now
        while len(self._marks) > 1 and now - self._marks[0][0] > WINDOW:
            self._marks.popleft()
        then, moved = self._marks[0]
        rate = (self._moved - moved) / (now - then) if now > then else 0.0
        self._marks.append((now, self._moved))
        total = sum(max(size or 0, self._bytes[file]) for file, size in self._sizes.items())
        self._report(Progress(len(self._finished), len(self._sizes), sum(self._bytes.values()), total, rate))
