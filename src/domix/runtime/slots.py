"""Commands in slots: so many at a time, each in the environment of its slot, those that died started again.

A command is a process with processes of its own (`dvc repro` and the training that it runs). To end it in good order
those are interrupted, never the process itself: it may be about to record what they have made.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import BinaryIO

import psutil

POLL_S = 0.2
LOOK_S = 1.0  # between two looks at a command's descendants
PAUSE_S = 2.0  # before a command is started again
GRACE_S = 120.0  # that an interrupted command has to save its state
TAIL = 1 << 16  # bytes of an attempt's output that are judged
SHELLS = ("sh", "bash", "dash", "fish", "ksh", "zsh")


@dataclass(frozen=True)
class Slot:
    """A place where one command runs at a time."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
    """What to run, and where its output goes."""

    name: str
    words: tuple[str, ...]
    folder: Path
    log: Path | None  # None: what it says goes where this process' own words go
    environment: Mapping[str, str | None] = field(default_factory=dict)  # None: without that variable
    after: str | None = None  # a command that must have ended before, well or badly
    spare: bool = False  # to be run in a slot that no other command needs, while others run, else not at all


class Verdict(Enum):
    """What the end of an attempt means."""

    DONE = "done"
    DIED = "died"  # worth another attempt; so many are made
    BUSY = "busy"  # something else stood in the way: another attempt, which does not count
    FAILED = "failed"  # another attempt would end alike


class State(Enum):
    """Where a command stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"  # cut short on demand


Judge = Callable[[int, str], Verdict]  # of an attempt's exit code (negative: the signal) and the end of its output


@dataclass
class Job:
    """One command's fate."""

    command: Command
    state: State = State.WAITING
    slot: Slot | None = None
    attempts: int = 0  # those that count
    code: int | None = None  # of the last attempt
    started: float = 0.0  # of the last attempt, by time.time()
    process: subprocess.Popen[bytes] | None = None
    not_before: float = 0.0
    output_from: int = 0  # where in the log the last attempt begins
    had_children: bool = False
    interrupted: set[int] = field(default_factory=set)  # processes
    kill_at: float | None = None  # when what its process left behind is killed

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen."""
        return self.state not in (State.WAITING, State.RUNNING)

    def output(self) -> str:
        """Return the end of what the last attempt has said; nothing of a command without a log."""
        if self.command.log is None:
            return ""
        with open(self.command.log, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self.output_from, size - TAIL))
            return file.read().decode(errors="replace")


class Runner:
    """Runs commands in slots until all have ended."""

    def __init__(
        self,
        commands: Iterable[Command],
        slots: Sequence[Slot],
        *,
        environment: Mapping[str, str],
        judge: Judge,
        retries: int,
        changed: Callable[[], None] = lambda: None,
        pause_s: float = PAUSE_S,
        grace_s: float = GRACE_S,
    ) -> None:
        """Prepare to run `commands`, in this order.

        Args:
            environment: of every command; the slot's and the command's own come on top.
            retries: further attempts for a command that died.
            changed: called whenever a command's state has changed.
            pause_s: before a further attempt.
            grace_s: that interrupted commands have before they are killed.
        """
        self.jobs = [Job(command) for command in commands]
        names = {job.command.name for job in self.jobs}
        assert len(names) == len(self.jobs) and all(job.command.after in names | {None} for job in self.jobs)
        self.slots, self.environment = slots, environment
        self._judge, self._retries, self._changed = judge, retries, changed
        self._pause_s, self._grace_s = pause_s, grace_s
        self._looked = 0.0

    def run(self, *, stopping: Callable[[], bool] = lambda: False, tick: Callable[[], None] = lambda: None) -> None:
        """Run the commands; once `stopping()` is true, start none, interrupt those that run, and wait for their end.

        `tick` is called a few times a second.
        """
        deadline: float | None = None
        try:
            while not all(job.ended for job in self.jobs):
                self._look()
                self._reap(stopping())
                self._drop_spare()
                if stopping():
                    deadline = deadline or time.monotonic() + self._grace_s
                    self._interrupt(kill=time.monotonic() > deadline)
                else:
                    self._start()
                tick()
                time.sleep(POLL_S)
        finally:
            self._interrupt(kill=True)  # nothing is running any more, unless an error passes through here

    def _start(self) -> None:
        """Start what there is room for."""
        running = {id(job.slot) for job in self.jobs if job.state is State.RUNNING}
        free = [slot for slot in self.slots if id(slot) not in running]
        for job in self.jobs:
            if free and self._ready(job):
                self._launch(job, free.pop(0))

    def _drop_spare(self) -> None:
        """Give up what was to run beside others, once these have ended."""
        if all(job.ended for job in self.jobs if not job.command.spare):
            for job in self.jobs:
                if job.state is State.WAITING:
                    job.state = State.STOPPED

    def _ready(self, job: Job) -> bool:
        ended = {other.command.name for other in self.jobs if other.ended}
        waits = job.command.after is not None and job.command.after not in ended
        return job.state is State.WAITING and not waits and time.monotonic() >= job.not_before

    def _launch(self, job: Job, slot: Slot) -> None:
        command = job.command
        job.attempts += 1
        job.had_children, job.interrupted, job.kill_at = False, set(), None
        with _opened(command.log) as log:
            if log is not None:
                title = f"attempt {job.attempts} in slot {slot.name}"
                log.write(f"--- {time.strftime('%F %T')} {title}: {' '.join(command.words)}\n".encode())
                job.output_from = log.tell()
                log.flush()
            settings = {**self.environment, **slot.environment, **command.environment}
            job.process = subprocess.Popen(
                command.words,
                cwd=command.folder,
                env={name: value for name, value in settings.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=None if log is None else subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is ours to pass on
            )
        job.state, job.slot, job.code, job.started = State.RUNNING, slot, None, time.time()
        self._changed()

    def _look(self) -> None:
        """Note which commands have processes of their own."""
        if time.monotonic() - self._looked < LOOK_S:
            return
        self._looked = time.monotonic()
        for job in self.jobs:
            if job.state is State.RUNNING and not job.had_children:
                _descendants(job)

    def _reap(self, stopping: bool) -> None:
        for job in self.jobs:
            if job.state is State.RUNNING and job.process is not None and job.process.poll() is not None:
                left = _group(job.process.pid)
                if left:
                    # A training whose `dvc` was killed would otherwise go on beside the next attempt.
                    job.kill_at = job.kill_at or time.monotonic() + self._grace_s
                    self._end_processes(job, left, kill=time.monotonic() > job.kill_at)
                else:
                    self._end(job, job.process.returncode, stopping)

    def _end(self, job: Job, code: int, stopping: bool) -> None:
        job.code = code
        verdict = Verdict.DONE if code == 0 else self._judge(code, job.output())
        if verdict is Verdict.DONE:
            job.state = State.DONE
        elif stopping:
            job.state = State.STOPPED
        elif verdict is Verdict.BUSY or (verdict is Verdict.DIED and job.attempts <= self._retries):
            job.attempts -= verdict is Verdict.BUSY
            job.state, job.not_before = State.WAITING, time.monotonic() + self._pause_s
        else:
            job.state = State.FAILED
        job.slot = job.slot if job.ended else None
        self._changed()

    def _interrupt(self, *, kill: bool) -> None:
        """Start nothing more, and end what runs."""
        for job in self.jobs:
            if job.state is State.WAITING:
                job.state = State.STOPPED
                self._changed()
            elif job.state is State.RUNNING and job.process is not None:
                self._end_processes(job, _group(job.process.pid) if kill else _descendants(job), kill=kill)

    def _end_processes(self, job: Job, processes: list[psutil.Process], *, kill: bool) -> None:
        for process in processes if kill else heads(processes):
            if kill or process.pid not in job.interrupted:
                job.interrupted.add(process.pid)
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL if kill else signal.SIGINT)


@contextlib.contextmanager
def _opened(log: Path | None) -> Generator[BinaryIO | None]:
    """Open a log to add to it, if there is to be one."""
    if log is None:
        yield None
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        yield file


def _descendants(job: Job) -> list[psutil.Process]:
    """List the processes of a command's process; itself, as long as it has had none."""
    assert job.process is not None
    try:
        process = psutil.Process(job.process.pid)
        children = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    job.had_children = job.had_children or bool(children)
    return children if job.had_children else [process]


def _group(number: int) -> list[psutil.Process]:
    """List the living processes of a process group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def heads(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Choose those that are in charge: no shells, and no helpers of another, which it ends itself."""
    names, parents = {}, {}
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            names[process], parents[process] = process.name(), process.ppid()
    others = {process.pid for process, name in names.items() if name not in SHELLS}
    return [process for process, name in names.items() if name not in SHELLS and parents[process] not in others]
