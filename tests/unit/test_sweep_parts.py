"""The parts of a sweep: copies and their parameters, slots, what an end means, the table, bad input."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from dvc.config import Config
from rich.console import Console

from domix.analyses.registry import find
from domix.cli import sweep
from domix.cli.sweeps.plan import Entry, Parts, Sweep, judge, parts_of, reason, stage_code, twins
from domix.cli.sweeps.view import View
from domix.cli.sweeps.workspaces import Study, bring_up_to_date
from domix.project import common
from domix.runtime.errors import DomixError, ParameterError
from domix.runtime.files import write_json
from domix.runtime.settings import replace
from domix.runtime.slots import Job, Slot, State, Verdict
from domix.settings.load import load
from domix.settings.params import Params
from tests.commands import domix
from tests.tiny import REPOSITORY

PARAMS = (REPOSITORY / "presets/smoke.yaml").read_text()
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run([*GIT, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def params() -> Params:
    return load(PARAMS)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    (root / ".dvc").mkdir(parents=True)
    (root / "metrics").mkdir()
    files = {
        "params.yaml": PARAMS,
        "code.py": "old",
        "gone.py": "x",
        "dvc.lock": "the repository's",
        "metrics/results.json": "{}",
        ".dvc/config": "['remote \"source\"']\n    url = ../bundled\n",
        ".gitignore": ".cache/\n.dvc/config.local\n",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    (root / ".dvc/config.local").write_text("['remote \"source\"']\n    url = ../../disk\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    return root


STUDY = Study("clipart", ("natural-only", "cg-low"), (0, 1))


def copy_of(root: Path) -> Path:
    return root / ".cache/sweep/s/clipart"


def test_a_copy_holds_the_working_tree_and_own_parameters(repository: Path) -> None:
    (repository / "code.py").write_text("changed, not committed")
    copy = copy_of(repository)
    bring_up_to_date(repository, copy, STUDY)
    params = load((copy / "params.yaml").read_text())
    assert (params.test_domain, params.mixtures, params.seeds) == ("clipart", ["natural-only", "cg-low"], [0, 1])
    assert params.supervised.mixtures == []  # the smoke preset's cg-high is no longer among the mixtures
    assert (copy / "code.py").read_text() == "changed, not committed"
    assert (copy / "dvc.lock").read_text() == "the repository's"
    assert not (copy / "metrics").exists()
    assert git(copy, "rev-parse", "HEAD") == git(repository, "rev-parse", "HEAD")
    assert git(repository, "status", "--porcelain") == "M code.py"


def test_a_copy_follows_the_repository_and_keeps_what_it_has_made(repository: Path) -> None:
    copy = copy_of(repository)
    bring_up_to_date(repository, copy, STUDY)
    (copy / "dvc.lock").write_text("the copy's")
    (copy / "artifacts").mkdir()
    (copy / "artifacts/model").write_text("trained")
    (copy / "metrics").mkdir()
    (copy / "metrics/results.json").write_text("the copy's")
    unchanged = (copy / "params.yaml").stat().st_mtime_ns
    git(repository, "rm", "-q", "gone.py")
    (repository / "new.py").write_text("new")
    git(repository, "add", "new.py")
    git(repository, "commit", "-q", "-m", "y")
    bring_up_to_date(repository, copy, STUDY)
    assert not (copy / "gone.py").exists()
    assert (copy / "new.py").read_text() == "new"
    assert (copy / "dvc.lock").read_text() == (copy / "metrics/results.json").read_text() == "the copy's"
    assert (copy / "artifacts/model").read_text() == "trained"
    assert (copy / "params.yaml").stat().st_mtime_ns == unchanged
    assert git(copy, "rev-parse", "HEAD") == git(repository, "rev-parse", "HEAD")


def test_a_copy_shares_the_cache_and_the_users_own_settings(repository: Path) -> None:
    copy = copy_of(repository)
    bring_up_to_date(repository, copy, STUDY)
    config = Config(str(copy / ".dvc"))
    assert config["cache"]["dir"] == str(repository / ".dvc/cache")
    assert config["cache"]["type"] == ["reflink", "hardlink", "symlink", "copy"]
    assert Path(config["remote"]["source"]["url"]).resolve() == (repository / ".dvc/../../disk").resolve()


def test_a_shallow_clone_can_be_copied(repository: Path, tmp_path: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "y")
    git(tmp_path, "clone", "-q", "--depth", "1", repository.as_uri(), "shallow")
    (tmp_path / "shallow/.dvc").mkdir(exist_ok=True)
    copy = copy_of(tmp_path / "shallow")
    for _ in range(2):
        bring_up_to_date(tmp_path / "shallow", copy, STUDY)
    assert git(copy, "rev-parse", "HEAD") == git(repository, "rev-parse", "HEAD")


def test_what_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DomixError, match="no Git checkout"):
        bring_up_to_date(tmp_path, tmp_path / "copy", STUDY)


def test_parameters_change_where_they_must_and_nowhere_else(params: Params) -> None:
    own = Study(params.test_domain, tuple(params.mixtures), tuple(params.seeds))
    assert own.edit(PARAMS) == PARAMS
    edited = dataclasses.replace(own, seeds=(7,)).edit(PARAMS).splitlines()
    changed = [(a, b) for a, b in zip(PARAMS.splitlines(), edited, strict=True) if a.split() != b.split()]
    assert changed == [("  - 0", "  - 7")]  # comments and nulls stay; spaces before a comment may not
    with pytest.raises(ParameterError, match="with the sweep's values"):
        dataclasses.replace(own, seeds=(0, 0)).edit(PARAMS)


@pytest.mark.parametrize("copies", [".dvc/tmp/exps/standalone/tmp1", ".cache/sweep/study/clipart"])
def test_what_outlives_a_copy_belongs_to_its_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: str
) -> None:
    (tmp_path / copies).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / copies)
    assert common.original_root() == tmp_path
    monkeypatch.chdir(tmp_path)
    assert common.original_root() == tmp_path


FAILED = (
    "train: no GPU\nERROR: failed to reproduce 'train@a-0': failed to run: python -m stages.train a 0, exited with {}"
)


@pytest.mark.parametrize(
    ("code", "said", "verdict"),
    [
        (255, FAILED.format(2), Verdict.FAILED),
        (255, FAILED.format(75), Verdict.DIED),
        (255, FAILED.format(-9), Verdict.DIED),
        (255, FAILED.format(1), Verdict.DIED),
        (-9, "Running stage", Verdict.DIED),
        (255, "ERROR: Stage 'train@a' not found", Verdict.FAILED),
        (255, "ERROR: Unable to acquire lock. Most likely another DVC process is running", Verdict.BUSY),
        (255, "ERROR: 'a/b' is busy, it is being blocked by:\n  (PID 3): dvc repro", Verdict.BUSY),
    ],
)
def test_what_an_end_means(code: int, said: str, verdict: Verdict) -> None:
    assert judge(code, said) is verdict


def test_a_failure_is_told_by_its_stage(params: Params) -> None:
    assert stage_code(255, FAILED.format(2)) == 2
    assert stage_code(0, "exited with 2, said a stage that was tried again") == 0
    assert reason(FAILED.format(2)) == "train: no GPU"
    assert reason("> python -m stages.train\n\n") == "> python -m stages.train"


def make_sweep(root: Path, params: Params, **changes: Any) -> Sweep:
    studies = tuple(Study(domain, ("natural-only", "cg-high"), (0,)) for domain in ("clipart", "sketch"))
    given = {"name": "s", "root": root, "studies": studies, "until": "report", "in_place": False, "pull": False}
    trained = {"train": ["natural-only", "cg-high"], "train_supervised": ["cg-high"]}
    parts = Parts(trained, public=("embed_public@x",), analyses=("evaluate", "analyse@cka"))
    return Sweep(**(given | {"parts": parts} | changes))


def test_a_sweep_trains_every_mixture_and_the_classifiers_asked_for(tmp_path: Path, params: Params) -> None:
    entries = make_sweep(tmp_path, params).entries
    assert [entry.name for entry in entries][:8] == [
        "clipart/prepare",
        "clipart/train@natural-only-0",
        "clipart/train@cg-high-0",
        "clipart/train_supervised@cg-high-0",
        "clipart/embed_public@x",
        "clipart/evaluate",
        "clipart/analyse@cka",
        "clipart/report",
    ]
    told = {entry.name: entry.words[entry.words.index("--wait-for-lock") + 1 :] for entry in entries}
    both = ("train@natural-only-0", "embed@natural-only-0")
    assert told["clipart/train@natural-only-0"] == ("repro", "--single-item", *both)
    assert told["clipart/train_supervised@cg-high-0"][-1] == "embed_supervised@cg-high-0"
    assert told["clipart/analyse@cka"] == ("repro", "--single-item", "analyse@cka")
    assert told["clipart/report"] == ("repro",)
    pulling = make_sweep(tmp_path, params, pull=True)
    assert pulling.command(pulling.entries[1]).words[-2:] == ("embed@natural-only-0", "--pull")
    trainings = make_sweep(tmp_path, params, until="train").entries
    assert [entry.name for entry in trainings][:2] == ["clipart/prepare", "clipart/train@natural-only-0"]
    assert trainings[1].words[-1] == "train@natural-only-0"
    assert {entry.kind for entry in trainings} == {"prepare", "train", "train_supervised"}
    assert entries[3].model == tmp_path / ".cache/sweep/s/clipart/artifacts/models/supervised/cg-high-s0"


def test_equal_trainings_follow_each_other(tmp_path: Path, params: Params) -> None:
    entries = make_sweep(tmp_path, params).of("train", "train_supervised")
    for entry in entries:
        path = entry.folder / f"artifacts/mixtures/{entry.mixture}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("natural" if entry.mixture == "natural-only" else entry.test_domain)
    assert twins(entries) == {"sketch/train@natural-only-0": "clipart/train@natural-only-0"}


def test_runs_are_analysed_ahead_once_they_are_embedded_with_threads_of_their_own(
    tmp_path: Path, params: Params
) -> None:
    clip = {"natural-only": ["cka"], "cg-high": ["cka", "sae"]}
    by_run = {("clip", mixture): names for mixture, names in clip.items()}
    parts = Parts({"train": ["natural-only", "cg-high"]}, by_run=by_run)
    made = make_sweep(tmp_path, params, parts=parts)
    made.slots = (Slot("cpu 0", {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}),)
    commands = made.analyses_ahead(made.of("train", "train_supervised", "embed_public"), {"MKL_NUM_THREADS": "3"})
    assert [command.after for command in commands] == [
        entry.name for entry in made.of("train") for _ in clip[str(entry.mixture)]
    ]
    assert all(command.spare for command in commands)
    assert [command.words[-5:] for command in commands[1:3]] == [
        ("domix.project.analysing", name, "clip", "cg-high", "0") for name in ("cka", "sae")
    ]
    assert commands[1].folder == made.of("train")[1].folder
    assert commands[1].environment == {"OMP_NUM_THREADS": None, "MKL_NUM_THREADS": "3"}
    made.slots = (Slot("gpu 0", {"CUDA_VISIBLE_DEVICES": "0"}),)
    assert made.analyses_ahead(made.of("train"), {}) == []
    unreported = make_sweep(tmp_path, params, until="train")
    assert unreported.analyses_ahead(unreported.of("train"), {}) == []


def test_classifiers_are_analysed_ahead_as_those_that_they_are(tmp_path: Path, params: Params) -> None:
    trained = {"train": ["natural-only", "cg-high"], "train_supervised": ["cg-high"]}
    by_run = {("clip", "cg-high"): ["cka"], ("supervised", "cg-high"): ["outliers", "pruning"]}
    made = make_sweep(tmp_path, params, parts=Parts(trained, by_run=by_run))
    made.slots = (Slot("cpu 0", {}),)
    commands = made.analyses_ahead(made.of("train", "train_supervised"), {})
    assert [(command.after, command.words[3:]) for command in commands[:3]] == [
        ("clipart/train@cg-high-0", ("cka", "clip", "cg-high", "0")),
        ("clipart/train_supervised@cg-high-0", ("outliers", "supervised", "cg-high", "0")),
        ("clipart/train_supervised@cg-high-0", ("pruning", "supervised", "cg-high", "0")),
    ]
    assert len({command.log for command in commands}) == len(commands) == 6


def test_only_analyses_with_tables_of_a_run_go_ahead_and_of_the_mixtures_that_they_choose(params: Params) -> None:
    own = {"cka": {}, "leakage": {}, "sae": {"mixtures": ["cg-high"]}}
    few = {name: find(name).Settings(**settings) for name, settings in own.items()}
    found = parts_of(replace(params, analyses=few), ["natural-only", "cg-high"])
    clip = {("clip", "natural-only"): ["cka"], ("clip", "cg-high"): ["cka", "sae"]}
    assert params.supervised.mixtures == ["cg-high"]
    assert found.by_run == clip | {("supervised", "cg-high"): []}  # none of these compares classifiers
    assert found.analyses == ("evaluate", "analyse@cka", "analyse@leakage", "analyse@sae")
    few |= {name: find(name).Settings() for name in ("outliers", "ood")}
    both = parts_of(replace(params, analyses=few), ["natural-only", "cg-high"]).by_run
    assert both["clip", "cg-high"] == ["cka", "sae", "outliers"] and both["supervised", "cg-high"] == ["outliers"]


def run_of(sweep: Sweep, entry: Entry, state: State, **changes: Any) -> None:
    entry.job = Job(sweep.command(entry), state=state, slot=Slot("gpu 3"), attempts=1, started=time.time() - 9)
    for key, value in changes.items():
        setattr(entry.job, key, value)


def drawn(view: View) -> str:
    console = Console(width=120, height=30, file=io.StringIO(), record=True)
    console.print(view.table())
    return console.export_text()


def test_the_table_tells_how_far_each_training_has_come(tmp_path: Path, params: Params) -> None:
    made = make_sweep(tmp_path, params)
    running, other = made.entries[1], made.entries[2]
    run_of(made, running, State.RUNNING, attempts=2)
    row = {"steps": 500, "batch": 128, "step": 120, "loss": 2.34567, "samples_per_s": 1280.4, "time": time.time()}
    write_json(made.heartbeat(running), row)
    run_of(made, other, State.RUNNING)
    write_json(made.heartbeat(other), row | {"step": 499, "time": time.time() - 1000})  # an attempt before
    lines = drawn(View(made)).splitlines()
    line = next(line for line in lines if "clipart/train@natural-only-0" in line)
    for told in ("running (attempt 2)", "gpu 3", "120/500", "1,280", "2.346", "0:00:38"):
        assert told in line
    assert "499" not in next(line for line in lines if "clipart/train@cg-high-0" in line)
    assert "2 running, 14 waiting" in "\n".join(lines)


def test_a_long_sweep_shows_what_matters_first(tmp_path: Path, params: Params) -> None:
    studies = tuple(Study(f"domain{number}", ("natural-only",), tuple(range(20))) for number in range(3))
    made = make_sweep(tmp_path, params, studies=studies)
    for entry in made.entries[:40]:
        entry.state = "done"
    run_of(made, made.entries[50], State.RUNNING)
    made.entries[45].state = "failed"
    view = View(made, Console(width=120, height=20, file=io.StringIO()))
    table = view.table()
    assert table.row_count == 13
    text = drawn(view)
    assert made.entries[50].name in text
    assert made.entries[45].name in text


def test_a_file_gets_lines_and_the_reasons_of_failures(tmp_path: Path, params: Params) -> None:
    made = make_sweep(tmp_path, params)
    out = io.StringIO()
    view = View(made, Console(file=out, width=80))
    entry = made.entries[1]
    run_of(made, entry, State.RUNNING)
    with view:
        view.update()
        view.update()
        assert entry.job is not None
        entry.job.state, entry.note = State.FAILED, "train: no GPU"
        view.update()
    assert out.getvalue().splitlines() == [
        "sweep: clipart/train@natural-only-0: running in gpu 3",
        "sweep: clipart/train@natural-only-0: failed, train: no GPU",
    ]
    made.log(entry).parent.mkdir(parents=True)
    made.log(entry).write_text("")
    view.summary()
    told = out.getvalue()
    assert "clipart/train@natural-only-0: failed: train: no GPU" in told
    assert ".cache/sweep/s/logs/clipart/train@natural-only-0.log" in told


def test_the_file_of_a_sweep_names_every_run(tmp_path: Path, params: Params) -> None:
    made = make_sweep(tmp_path, params)
    made.write("running")
    told = json.loads((tmp_path / ".cache/sweep/s/sweep.json").read_text())
    assert told["workspaces"] == {name: f".cache/sweep/s/{name}" for name in ("clipart", "sketch")}
    assert [run["name"] for run in told["runs"]] == [entry.name for entry in made.entries]
    assert told["runs"][1]["model"] == ".cache/sweep/s/clipart/artifacts/models/clip/natural-only-s0"
    assert told["runs"][1]["state"] == "waiting"


@pytest.mark.parametrize(
    ("arguments", "in_place"),
    [
        ({}, True),
        ({"seeds": (0,), "mixtures": ("natural-only", "cg-high")}, True),
        ({"seeds": (1,)}, False),
        ({"name": "own"}, False),
        ({"test_domains": ("infograph", "sketch")}, False),
    ],
)
def test_the_study_of_the_parameters_needs_no_copy(params: Params, arguments: dict[str, Any], in_place: bool) -> None:
    made = sweep.plan(params, sweep.Asked(**arguments))
    assert made.in_place == in_place
    assert (made.entries[0].folder == made.root) == in_place


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--name", "../x"), "--name must be a plain folder name, not '../x'"),
        (("--write", "pbs", "there"), "--write knows slurm and sky, not 'pbs'"),
        (("--write", "slurm", "there"), "has no mixture 'natural-only' yet: run `domix sweep"),
    ],
)
def test_bad_input_is_told_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, params: Params, arguments: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DomixError, match=says):
        domix(params, "sweep", *arguments)


@pytest.mark.parametrize(("option", "value"), [("--seeds", "a"), ("--slots", "0")])
def test_numbers_must_be_numbers(params: Params, option: str, value: str) -> None:
    with pytest.raises(typer.TyperException) as caught:
        domix(params, "sweep", option, value)
    assert option in caught.value.format_message()
