"""The course of a sweep: what the runs share, the runs, what reads them, the rest."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from domix.cli.pipeline.dvc import WHOLE_MACHINE, environment
from domix.cli.pipeline.lock_file import guarded, mend
from domix.cli.sweeps.plan import RUNS, WAITING, Entry, Kind, Sweep, judge, reason, twins
from domix.cli.sweeps.view import View
from domix.cli.sweeps.workspaces import bring_up_to_date
from domix.runtime.slots import Command, Runner, Slot


class Conductor:
    """Runs a sweep's entries, phase by phase."""

    def __init__(self, sweep: Sweep, view: View, signals: Sequence[signal.Signals], *, retries: int) -> None:
        """Run `sweep`; once there is a signal, end it."""
        self.sweep, self.view, self.signals, self.retries = sweep, view, signals, retries
        self.environment = environment()

    def conduct(self) -> None:
        """Prepare, train and embed, analyse, report.

        Raises:
            DomixError: the pipeline runs already where the sweep is to run, or a dvc.lock is in the midst of a merge.
        """
        sweep = self.sweep
        if sweep.until == "mixtures":
            sweep.entries = sweep.of("prepare")
        with ExitStack() as stack:
            if not sweep.in_place:
                mend(sweep.root)  # its dvc.lock is what a new copy begins with
            for study in sweep.studies:
                if not sweep.in_place:
                    bring_up_to_date(sweep.root, sweep.folder_of(study), study)
                stack.enter_context(guarded(sweep.folder_of(study)))
            self._run_all()

    def _run_all(self) -> None:
        sweep = self.sweep
        self._run(sweep.of("prepare"), WHOLE_MACHINE)
        for study in sweep.studies:
            self._find_done(study.test_domain)
        ready = [entry for entry in sweep.of(*RUNS) if entry.state == "waiting"]
        self._run(ready, sweep.slots, twins(ready), spare=sweep.analyses_ahead(ready, self.environment))
        # Without the slots' limits, so that evaluation's last digits are those of a plain `dvc repro`.
        self._run(self._ready("analyse", after=("prepare", *RUNS)), [Slot(slot.name) for slot in sweep.slots])
        self._run(self._ready("report", after=("prepare", *RUNS, "analyse")), WHOLE_MACHINE)

    def _ready(self, kind: Kind, *, after: tuple[Kind, ...]) -> list[Entry]:
        """List the entries that can run; one before which a part of its study failed is skipped."""
        for entry in self.sweep.of(kind):
            missing = [e for e in self.sweep.of(*after, test_domain=entry.test_domain) if e.status != "done"]
            if missing:
                entry.state, entry.note = "skipped", f"{len(missing)} parts before it are not done"
        return [entry for entry in self.sweep.of(kind) if entry.state == "waiting"]

    def _find_done(self, test_domain: str) -> None:
        """Mark the runs that are up to date, and those that cannot begin."""
        (prepared,) = self.sweep.of("prepare", test_domain=test_domain)
        runs = self.sweep.of(*RUNS, test_domain=test_domain)
        if prepared.status != "done":
            for entry in runs:
                entry.state, entry.note = "skipped", "its data could not be made"
        elif not self.signals and any(entry.model is None or entry.model.exists() for entry in runs):
            stages = [stage for entry in runs for stage in entry.targets]
            changed = outdated(prepared.folder, stages, self.environment)
            for entry in runs:
                if changed is not None and not changed & set(entry.targets):
                    entry.state, entry.note = "done", "up to date"

    def _run(
        self,
        entries: list[Entry],
        slots: Sequence[Slot],
        after: dict[str, str] | None = None,
        spare: Sequence[Command] = (),
    ) -> None:
        commands = [self.sweep.command(entry, (after or {}).get(entry.name)) for entry in entries]
        runner = Runner(
            [*commands, *spare],
            slots,
            environment=self.environment,
            judge=judge,
            retries=self.retries,
            changed=self._changed,
        )
        for entry, job in zip(entries, runner.jobs[: len(entries)], strict=True):
            entry.job = job
        self._changed()
        runner.run(stopping=lambda: bool(self.signals), tick=self.view.update)
        self._changed()

    def _changed(self) -> None:
        for entry in self.sweep.entries:
            if entry.job and entry.job.code and not entry.note and entry.status in ("failed", "stopped"):
                entry.note = reason(entry.job.output())
        self.sweep.write("running")
        self.view.update()


def outdated(folder: Path, stages: list[str], environment: Mapping[str, str]) -> set[str] | None:
    """Ask DVC which of some stages, or of all if none is named, would run; None: it cannot tell."""
    command = [*WAITING, "status", "--json", *stages]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    try:
        return set(json.loads(done.stdout or "{}")) if not done.returncode else None
    except json.JSONDecodeError:
        return None
