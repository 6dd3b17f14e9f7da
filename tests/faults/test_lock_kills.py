"""`domix repro` as a real process over stages that take no time: kills leave dvc.lock whole, and nothing runs twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from domix.cli.pipeline.lock_file import DAMAGED, LOCK
from tests.processes import wait_for
from tests.tiny import REPOSITORY

STAGES = ("first", "second", "third")
PIPELINE = "stages:\n" + "".join(
    f"  {name}:\n    cmd: python work.py {name}\n    deps: [work.py{before}]\n    outs: [{name}]\n"
    for name, before in zip(STAGES, ("", ", first", ", second"), strict=True)
)
# Keeps a diary; waits as long as there is a file `patient`, and saves when it is interrupted.
WORK = """
import signal, sys, time
from pathlib import Path
name = sys.argv[1]
with open("diary", "a") as file:
    file.write(name + "\\n")
def save(*_):
    Path("saved").touch()
    sys.exit(75)
signal.signal(signal.SIGINT, save)
if Path("bad").exists():
    sys.exit(2)
Path("started-" + name).touch()
for _ in range(2000):
    if not Path("patient").exists():
        break
    time.sleep(0.05)
Path(name).write_text(name)
"""
# Of other stages, so that the file takes a while to be written, as a study's does.
LONG = "schema: '2.0'\nstages:\n" + "".join(
    f"  more{n}:\n    cmd: more\n    outs:\n    - path: out{n}\n      hash: md5\n      md5: a{n:031}\n      size: {n}\n"
    for n in range(400)
)
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "src"))),
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "DVC_NO_ANALYTICS": "true",
}
DOMIX, DVC = (sys.executable, "-m", "domix"), (sys.executable, "-m", "dvc")
BACK = "the last good copy is back in its place"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository whose pipeline has not run."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copy(REPOSITORY / "params.yaml", root)
    for name, text in (("dvc.yaml", PIPELINE), ("work.py", WORK), (LOCK, LONG)):
        (root / name).write_text(text)
    for command in (("git", "init", "-q"), (*DVC, "init", "-q")):
        subprocess.run(command, cwd=root, env=ENVIRONMENT, check=True)
    return root


@pytest.fixture
def root(empty: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(empty, tmp_path / "repository"))


def start(root: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words or (*DOMIX, "repro", "third"),
        cwd=root,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def diary(root: Path) -> list[str]:
    return (root / "diary").read_text().split()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]


def kill_when(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it has started, once something has happened."""
    while not happened():
        assert process.poll() is None, process.communicate()
    for each in family(process):
        each.kill()
    process.communicate()


@pytest.mark.slow
def test_a_run_then_a_lock_cut_short_at_many_lengths(root: Path) -> None:
    code, said = finish(start(root))
    assert code == 0, said
    assert diary(root) == list(STAGES)
    whole = (root / LOCK).read_bytes()
    for size in (0, 13, len(LONG), len(whole) - 1):
        (root / LOCK).write_bytes(whole[:size])
        code, said = finish(start(root))
        assert code == 0, said
        assert said.count(BACK) == 1
        assert (root / LOCK).read_bytes() == whole
        assert (root / DAMAGED).read_bytes() == whole[:size]
    assert diary(root) == list(STAGES)


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_dvc_itself_killed_while_it_writes(root: Path, share: float) -> None:
    """The fault itself: `dvc repro` leaves a lock that no later one can read, and `domix repro` goes on."""
    (root / "patient").touch()
    process = start(root)
    wait_for(lambda: (root / "started-first").exists(), process)
    (root / "patient").unlink()
    wait_for(lambda: (root / "started-second").exists(), process)  # by now the first has been recorded
    finish(process)
    before = (root / LOCK).stat().st_size
    (root / "work.py").write_text(WORK + "# edited\n")
    process = start(root, *DVC, "repro", "third")
    kill_when(lambda: (root / LOCK).stat().st_size < before * share, process)
    left = (root / LOCK).stat().st_size
    assert left < before
    ran = diary(root)
    assert finish(start(root, *DVC, "repro", "third"))[0] != 0
    code, said = finish(start(root))
    assert code == 0, said
    assert BACK in said
    assert diary(root) == [*ran, *STAGES[len(ran) - len(STAGES) :]]


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_a_run_killed_while_it_writes(root: Path, stage: int) -> None:
    process = start(root)
    seen = set[Path]()

    def writing() -> bool:
        seen.update(root.glob(f".{LOCK}.tmp-*"))
        return len(seen) == stage

    kill_when(writing, process)
    ran = diary(root)
    code, said = finish(start(root))
    assert code == 0, said
    assert BACK not in said
    assert diary(root) == [*ran, *STAGES[len(ran) :]]
    assert not list(root.glob(f".{LOCK}.tmp-*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_the_stage_save(root: Path, number: signal.Signals) -> None:
    (root / "patient").touch()
    process = start(root)
    wait_for(lambda: (root / "started-first").exists(), process)
    others = family(process)
    process.send_signal(number)
    code, said = finish(process)
    assert code == 75, said
    assert said.splitlines()[-1] == f"repro: stopped by {number.name}; the same command goes on from here"
    assert (root / "saved").exists()
    assert psutil.wait_procs(others, timeout=20)[1] == []


def test_a_second_one_is_refused_and_a_killed_one_leaves_nothing(root: Path) -> None:
    (root / "patient").touch()
    process = start(root)
    wait_for(lambda: (root / "started-first").exists(), process)
    code, said = finish(start(root))
    assert (code, len(said.splitlines())) == (2, 1)
    assert said.startswith("repro: another command of Domix runs the pipeline in ")
    others = family(process)
    process.kill()
    assert psutil.wait_procs(others, timeout=20)[1] == []
    assert (root / "saved").exists()
    process.communicate()


def test_what_a_killed_dvc_leaves_ends_too(root: Path) -> None:
    (root / "patient").touch()
    process = start(root)
    wait_for(lambda: (root / "started-first").exists(), process)
    others = family(process)
    others[1].kill()
    code, said = finish(process)
    assert code == 75
    assert said.splitlines()[-1] == "repro: stopped by SIGKILL; the same command goes on from here"
    assert (root / "saved").exists()
    assert psutil.wait_procs(others, timeout=20)[1] == []


@pytest.mark.slow
def test_exit_codes_and_refusals(root: Path) -> None:
    (root / "bad").touch()
    assert finish(start(root))[0] == finish(start(root, *DVC, "repro", "third"))[0] == 255
    (root / "bad").unlink()
    code, said = finish(start(root, *DOMIX, "repro", "--quiet"))
    assert code == 2  # all has run, but there is no answer to show
    assert diary(root)[-3:] == list(STAGES)
    assert "summary.json is missing" in said.splitlines()[-1]
    merge = (root / LOCK).read_text().replace("  second:", "<<<<<<< HEAD\n=======\n>>>>>>> x\n  second:")
    (root / LOCK).write_text(merge)
    code, said = finish(start(root))
    assert (code, len(said.splitlines())) == (2, 1)
    assert "conflict markers of a Git merge" in said
    assert (root / LOCK).read_text() == merge
