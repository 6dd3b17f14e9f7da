"""The course of a sweep: what the trainings share, the trainings, the rest."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from domix.cli.pipeline.dvc import WHOLE_MACHINE, environment
from domix.cli.pipeline.lock_file import guarded, mend
from domix.cli.sweeps.plan import WAITING, Entry, Sweep, judge, reason, twins
from domix.cli.sweeps.view import View
from domix.cli.sweeps.workspaces import bring_up_to_date
from domix.runtime.slots import Runner, Slot


class Conductor:
    """Runs a sweep's entries, phase by phase."""

    def __init__(self, sweep: Sweep, view: View, signals: Sequence[signal.Signals], *, retries: int) -> None:
        """Run `sweep`; once there is a signal, end it."""
        self.sweep, self.view, self.signals, self.retries = sweep, view, signals, retries
        self.environment = environment()

    def conduct(self) -> None:
        """Prepare, train, report.

        Raises:
            DomixError: the pipeline runs already where the sweep is to run, or a dvc.lock is in the midst of a merge.
        """
        sweep = self.sweep
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
        trainings, reports = sweep.of("train", "train_supervised"), sweep.of("report")
        self._drop(trainings, sweep.until == "mixtures")
        self._drop(reports, sweep.until != "report")
        self._run(sweep.of("prepare"), WHOLE_MACHINE)
        for study in sweep.studies:
            self._find_done(study.test_domain)
        ready = [entry for entry in sweep.of("train", "train_supervised") if entry.state == "waiting"]
        self._run(ready, sweep.slots, twins(ready))
        for entry in sweep.of("report"):
            missing = [e for e in self._before(entry) if e.status != "done"]
            if missing:
                entry.state, entry.note = "skipped", f"{len(missing)} parts before it are not done"
        self._run([entry for entry in sweep.of("report") if entry.state == "waiting"], WHOLE_MACHINE)

    def _drop(self, entries: list[Entry], unwanted: bool) -> None:
        if unwanted:
            self.sweep.entries = [entry for entry in self.sweep.entries if entry not in entries]

    def _before(self, entry: Entry) -> list[Entry]:
        return self.sweep.of("prepare", "train", "train_supervised", test_domain=entry.test_domain)

    def _find_done(self, test_domain: str) -> None:
        """Mark the trainings that are up to date, and those that cannot run."""
        (prepared,) = self.sweep.of("prepare", test_domain=test_domain)
        trainings = self.sweep.of("train", "train_supervised", test_domain=test_domain)
        if prepared.status != "done":
            for entry in trainings:
                entry.state, entry.note = "skipped", "its data could not be made"
        elif trainings and not self.signals:
            changed = outdated(prepared.folder, [entry.stage for entry in trainings], self.environment)
            for entry in trainings:
                if entry.stage not in changed:
                    entry.state, entry.note = "done", "up to date"

    def _run(self, entries: list[Entry], slots: Sequence[Slot], after: dict[str, str] | None = None) -> None:
        commands = [self.sweep.command(entry, (after or {}).get(entry.name)) for entry in entries]
        runner = Runner(
            commands,
            slots,
            environment=self.environment,
            judge=judge,
            retries=self.retries,
            changed=self._changed,
        )
        for entry, job in zip(entries, runner.jobs, strict=True):
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


def outdated(folder: Path, stages: list[str], environment: dict[str, str]) -> set[str]:
    """Ask DVC which of some stages would run."""
    command = [*WAITING, "status", "--json", *stages]
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    try:
        return set(json.loads(done.stdout or "{}")) if not done.returncode else set(stages)
    except json.JSONDecodeError:
        return set(stages)
