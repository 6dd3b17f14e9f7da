"""What a sweep has to do: for each test domain data, runs, analyses and report; the file that says so."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from domix.analyses.registry import find
from domix.cli.pipeline.dvc import DVC
from domix.cli.sweeps.workspaces import Study
from domix.project.common import ARTIFACTS, SWEEPS, USER_ERROR, git_state, run_name
from domix.project.tracking import KINDS, PROGRESS
from domix.runs import Run
from domix.runtime.files import sha256_file, write_json
from domix.runtime.slots import Command, Job, Slot, Verdict
from domix.settings.params import Params

Kind = Literal["prepare", "train", "train_supervised", "embed_public", "analyse", "report"]
RUNS: tuple[Kind, ...] = ("train", "train_supervised", "embed_public")
EMBEDS = {"train": "embed", "train_supervised": "embed_supervised"}
MODELS: dict[str, Path] = {
    "train": ARTIFACTS / "models" / "clip",
    "train_supervised": ARTIFACTS / "models" / "supervised",
}
WAITING = (*DVC, "--wait-for-lock")
AHEAD = (sys.executable, "-m", "domix.project.analysing")
PREPARE = (*WAITING, "repro", "mixtures", "captions")
LOCKED = re.compile(r"Unable to acquire lock|is busy, it is being blocked by")
EXITED = re.compile(r"exited with (-?\d+)")
CHATTER = re.compile(r"ERROR: failed to reproduce|--- |> |Running stage|Updating lock|To track the changes|\s*git add")


@dataclass
class Entry:
    """One command of a sweep, and what has become of it."""

    kind: Kind
    test_domain: str
    folder: Path  # where it runs
    mixture: str | None = None
    seed: int | None = None
    targets: tuple[str, ...] = ()  # what DVC calls the stages that it runs, one after the other; of a report: all
    state: str = "waiting"  # until there is a job, and for entries that need none
    note: str = ""
    job: Job | None = None

    @property
    def name(self) -> str:
        """Return the entry's name in the sweep, its log's name, too."""
        return f"{self.test_domain}/{self.targets[0] if self.targets else self.kind}"

    @property
    def words(self) -> tuple[str, ...]:
        """Return its command."""
        if self.kind == "prepare":
            return PREPARE
        return (*WAITING, "repro", *(("--single-item", *self.targets) if self.targets else ()))

    @property
    def model(self) -> Path | None:
        """Return a training's model folder."""
        if self.mixture is None or self.seed is None:
            return None
        return self.folder / MODELS[self.kind] / run_name(self.mixture, self.seed)

    @property
    def status(self) -> str:
        """Return where it stands: waiting, running, done, failed, stopped, skipped."""
        return self.job.state.value if self.job else self.state


@dataclass(frozen=True)
class Parts:
    """What DVC runs of a study, beside the data: kind of training -> mixtures, and stages by their names."""

    trained: dict[Kind, list[str]]
    public: tuple[str, ...] = ()  # models that were not trained here
    analyses: tuple[str, ...] = ()  # what reads the runs: evaluation and analyses, none of which reads another
    by_run: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)  # (kind, mixture) -> its analyses


@dataclass
class Sweep:
    """All that a sweep does, and where."""

    name: str
    root: Path
    studies: tuple[Study, ...]
    until: str
    in_place: bool  # one study, that of params.yaml: no copy is needed
    pull: bool  # take from DVC's default remote what other machines have made
    parts: Parts
    slots: Sequence[Slot] = ()
    entries: list[Entry] = field(default_factory=list)
    started: float = field(default_factory=time.time)
    commit: tuple[str | None, bool] = field(default_factory=git_state)

    def __post_init__(self) -> None:
        for study in self.studies:
            place = (study.test_domain, self.folder_of(study))
            self.entries.append(Entry("prepare", *place))
            for kind, mixtures in self.parts.trained.items():
                for mixture, seed in [(m, s) for m in study.mixtures if m in mixtures for s in study.seeds]:
                    stages = (kind, EMBEDS[kind]) if self.until == "report" else (kind,)
                    targets = tuple(f"{stage}@{mixture}-{seed}" for stage in stages)
                    self.entries.append(Entry(kind, *place, mixture, seed, targets))
            if self.until == "report":
                self.entries += [Entry("embed_public", *place, targets=(stage,)) for stage in self.parts.public]
                self.entries += [Entry("analyse", *place, targets=(stage,)) for stage in self.parts.analyses]
                self.entries.append(Entry("report", *place))

    @property
    def folder(self) -> Path:
        """Return the sweep's own folder."""
        return self.root / SWEEPS / self.name

    def folder_of(self, study: Study) -> Path:
        """Return the copy in which a study runs."""
        return self.root if self.in_place else self.folder / study.test_domain

    def of(self, *kinds: Kind, test_domain: str | None = None) -> list[Entry]:
        """List the entries of some kinds, and of one test domain, if given."""
        return [e for e in self.entries if e.kind in kinds and test_domain in (None, e.test_domain)]

    def log(self, entry: Entry) -> Path:
        """Return where an entry's output goes."""
        return self.folder / "logs" / f"{entry.name}.log"

    def heartbeat(self, entry: Entry) -> Path:
        """Return the file in which a training tells how far it has come."""
        return self.folder / "progress" / f"{entry.name}.json"

    def command(self, entry: Entry, after: str | None = None) -> Command:
        """Return what runs an entry."""
        told = {PROGRESS: str(self.heartbeat(entry))}
        words = (*entry.words, "--pull") if self.pull else entry.words
        return Command(entry.name, words, entry.folder, self.log(entry), told, after)

    def analyses_ahead(self, runs: Sequence[Entry], environment: Mapping[str, str]) -> list[Command]:
        """Return what may fill a core that no training needs: the analyses of runs that have been embedded.

        They compute with as many threads as in their stages, which find what they kept. GPUs are left to trainings.
        """
        if self.until != "report" or any("CUDA_VISIBLE_DEVICES" in slot.environment for slot in self.slots):
            return []
        own = {name: environment.get(name) for slot in self.slots for name in slot.environment}
        return [
            Command(
                f"{entry.name}, {name}",
                (*AHEAD, name, KINDS[entry.kind], str(entry.mixture), str(entry.seed)),
                entry.folder,
                self.log(entry).with_suffix(f".{name}.log"),
                own,
                after=entry.name,
                spare=True,
            )
            for entry in runs
            if entry.kind in KINDS
            for name in self.parts.by_run.get((KINDS[entry.kind], str(entry.mixture)), ())
        ]

    def write(self, state: str) -> None:
        """Write sweep.json: what was asked, and what has become of each part. Paths are relative to the repository."""
        commit, dirty = self.commit
        first = self.studies[0]
        write_json(
            self.folder / "sweep.json",
            {
                "name": self.name,
                "state": state,
                "asked": {
                    "test_domains": [study.test_domain for study in self.studies],
                    "mixtures": list(first.mixtures),
                    "seeds": list(first.seeds),
                    "until": self.until,
                },
                "git_commit": commit,
                "git_dirty": dirty,
                "started": round(self.started, 1),
                "updated": round(time.time(), 1),
                "slots": [slot.name for slot in self.slots],
                "workspaces": {s.test_domain: self._relative(self.folder_of(s)) for s in self.studies},
                "runs": [self._record(entry) for entry in self.entries],
            },
        )

    def _record(self, entry: Entry) -> dict[str, Any]:
        job = entry.job
        return {
            "name": entry.name,
            "kind": entry.kind,
            "test_domain": entry.test_domain,
            "mixture": entry.mixture,
            "seed": entry.seed,
            "state": entry.status,
            "note": entry.note,
            "slot": job.slot.name if job and job.slot else None,
            "attempts": job.attempts if job else 0,
            "exit_code": stage_code(job.code, job.output()) if job and job.code is not None else None,
            "log": self._relative(self.log(entry)),
            "model": self._relative(entry.model) if entry.model else None,
        }

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def parts_of(params: Params, mixtures: Sequence[str]) -> Parts:
    """Return what the parameters ask for, of some mixtures."""
    supervised = [name for name in mixtures if name in params.supervised.mixtures]
    asked = [(find(name), settings) for name, settings in params.analyses.items()]
    trained: dict[Kind, list[str]] = {"train": list(mixtures), "train_supervised": supervised}
    runs = [Run(KINDS[kind], mixture, 0) for kind, names in trained.items() for mixture in names]
    by_run = {
        (run.kind, run.mixture): [each.name for each, own in asked if each.tables and each.chosen(own, [run])]
        for run in runs
    }
    return Parts(
        trained,
        tuple(f"embed_public@{name}" for name in params.models),
        ("evaluate", *(f"analyse@{name}" for name in params.analyses)),
        by_run,
    )


def stage_code(code: int, said: str) -> int:
    """Return the exit code of the stage that DVC ran, if it tells one, else DVC's."""
    told = EXITED.findall(said)
    return int(told[-1]) if told and code else code


def judge(code: int, said: str) -> Verdict:
    """Tell what the end of a `dvc repro` means: a user's mistake would be made again, other ends may pass."""
    if LOCKED.search(said):
        return Verdict.BUSY
    if not EXITED.search(said):
        return Verdict.DIED if code < 0 else Verdict.FAILED
    return Verdict.FAILED if stage_code(code, said) == USER_ERROR else Verdict.DIED


def reason(said: str) -> str:
    """Return the line of a failed attempt's output that says why."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if not CHATTER.match(line)]
    return (telling or lines or ["it said nothing"])[-1]


def twins(entries: Sequence[Entry]) -> dict[str, str]:
    """Find trainings that are the same in several copies: name -> the one that goes first.

    Their saved states are one and the same, so they must not run side by side; and what the first has made, DVC's run
    cache gives to the others.
    """
    first: dict[str, str] = {}
    found = {}
    for entry in entries:
        if entry.mixture is None:
            continue
        data = sha256_file(entry.folder / ARTIFACTS / "mixtures" / f"{entry.mixture}.parquet")
        key = json.dumps([entry.kind, data, entry.seed])
        if first.setdefault(key, entry.name) != entry.name:
            found[entry.name] = first[key]
    return found
