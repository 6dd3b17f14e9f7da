"""What the terminal shows of a sweep: a live table; plain lines where stderr is a file; a summary at the end."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from domix.cli.sweeps.plan import Entry, Sweep
from domix.runtime.tracking.heartbeat import read_heartbeat

LINES_EVERY_S = 60.0  # between lines about a running training where stderr is a file
ORDER = ("running", "failed", "stopped", "waiting", "skipped", "done")
COLOURS = {"running": "cyan", "done": "green", "failed": "red", "stopped": "yellow", "skipped": "yellow"}
COLUMNS = ("run", "state", "slot", "step", "samples/s", "loss", "left")


class View:
    """Shows a sweep while the block runs."""

    def __init__(self, sweep: Sweep, console: Console | None = None) -> None:
        """Show `sweep` on stderr, or on `console`."""
        self.sweep = sweep
        self.console = console or Console(stderr=True)
        self._live = Live(
            console=self.console, get_renderable=self.table, refresh_per_second=2, vertical_overflow="crop"
        )
        self._told: dict[str, tuple[str, int]] = {}
        self._lines_at = time.monotonic()

    def __enter__(self) -> View:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def say(self, line: str, colour: str | None = None) -> None:
        """Print a line, above the table."""
        self.console.print(f"sweep: {line}", style=colour, markup=False, highlight=False, soft_wrap=True)

    def update(self) -> None:
        """Tell what has changed, where there is no table."""
        if self.console.is_terminal:
            return
        due = time.monotonic() - self._lines_at >= LINES_EVERY_S
        self._lines_at = time.monotonic() if due else self._lines_at
        for entry in self.sweep.entries:
            now = (entry.status, entry.job.attempts if entry.job else 0)
            before = self._told.setdefault(entry.name, ("waiting", 0))
            if now != before or (due and entry.status == "running"):
                self._told[entry.name] = now
                self.say(describe(self.sweep, entry))

    def table(self) -> Table:
        """Return the table as of now: what runs or has failed, then as much of the rest as there is room for."""
        counts = {state: sum(entry.status == state for entry in self.sweep.entries) for state in ORDER}
        table = Table(
            title=f"sweep {self.sweep.name}",
            caption=", ".join(f"{count} {state}" for state, count in counts.items() if count),
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for name in COLUMNS:
            words = name in ("run", "state", "slot")
            table.add_column(name, justify="left" if words else "right", no_wrap=True, min_width=0 if words else 7)
        room = max(1, self.console.height - 7)
        shown = sorted(self.sweep.entries, key=lambda entry: ORDER.index(entry.status))[:room]
        for entry in [entry for entry in self.sweep.entries if entry in shown]:
            table.add_row(*row(self.sweep, entry), style=COLOURS.get(entry.status, ""))
        return table

    def summary(self) -> None:
        """Print how it ended, each failure with its reason and its log."""
        for entry in [entry for entry in self.sweep.entries if entry.status not in ("done", "waiting")]:
            log = self.sweep.log(entry)
            tries = f" after {entry.job.attempts} attempts" if entry.job and entry.job.attempts > 1 else ""
            self.say(f"{entry.name}: {entry.status}{tries}: {entry.note or 'not begun'}", COLOURS.get(entry.status))
            if entry.job and log.exists():
                self.say(f"    {log.relative_to(self.sweep.root)}")
        done = sum(entry.status == "done" for entry in self.sweep.entries)
        self.say(f"{done} of {len(self.sweep.entries)} parts done; all about them: {self.sweep.folder / 'sweep.json'}")


def row(sweep: Sweep, entry: Entry) -> tuple[str, ...]:
    """Return a table's row."""
    told = progress_of(sweep, entry)
    state = entry.status
    if entry.job and entry.job.attempts > 1:
        state += f" (attempt {entry.job.attempts})"
    steps = f"{told['step']:,}/{told['steps']:,}" if "step" in told else ""
    rate = f"{told['samples_per_s']:,.0f}" if "samples_per_s" in told else ""
    loss = f"{told['loss']:.3f}" if "loss" in told else ""
    slot = entry.job.slot.name if entry.job and entry.job.slot else ""
    return (entry.name, state, slot, steps, rate, loss, left(told) if entry.status == "running" else "")


def describe(sweep: Sweep, entry: Entry) -> str:
    """Say in one line where a part of the sweep stands."""
    name, state, slot, steps, rate, loss, remaining = row(sweep, entry)
    parts = [f"{name}: {state}" + (f" in {slot}" if slot and entry.status == "running" else "")]
    if entry.status == "running" and steps:
        parts += [f"step {steps}", f"{rate} samples/s", f"loss {loss}", f"{remaining} left"]
    if entry.note:
        parts.append(entry.note)
    return ", ".join(parts)


def progress_of(sweep: Sweep, entry: Entry) -> dict[str, Any]:
    """Return what a training of this sweep has last told; nothing of an attempt before."""
    if entry.job is None or entry.mixture is None or entry.status not in ("running", "done"):
        return {}
    told = read_heartbeat(sweep.heartbeat(entry))
    return told if told.get("time", 0.0) >= entry.job.started else {}


def left(told: dict[str, Any]) -> str:
    """Return the time that a training still takes at its present rate."""
    if not told.get("samples_per_s") or "batch" not in told:
        return ""
    return str(timedelta(seconds=round((told["steps"] - told["step"]) * told["batch"] / told["samples_per_s"])))
