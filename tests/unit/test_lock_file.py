"""dvc.lock: damage is noticed wherever a file was cut, the last good copy comes back, a merge is the user's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from domix.cli.pipeline.lock_file import DAMAGED, HOME, LOCK, guarded, mend, problem_of
from domix.runtime.errors import DataError, DomixError
from tests.tiny import REPOSITORY

WHOLE = (REPOSITORY / LOCK).read_text(encoding="utf-8")
SMALL = """schema: '2.0'
stages:
  one:
    cmd: python one.py
    deps:
    - path: one.py
      hash: md5
      md5: d41d8cd98f00b204e9800998ecf8427e
      size: 10
    outs:
    - path: one
      hash: md5
      md5: d41d8cd98f00b204e9800998ecf8427e
      size: 0
  two:
    cmd: python two.py
"""
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a repository of Git and DVC whose last good lock is SMALL."""
    for command in (("git", "init", "-q"), (sys.executable, "-m", "dvc", "init", "-q")):
        subprocess.run(command, cwd=tmp_path, check=True)
    write(tmp_path, SMALL)
    mend(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / LOCK).write_bytes(text.encode())


def commit(folder: Path) -> None:
    subprocess.run([*GIT, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*GIT, "commit", "-q", "-m", "x"], cwd=folder, check=True)


def test_a_real_lock_cut_short_anywhere_is_noticed() -> None:
    assert problem_of(WHOLE) is None and problem_of(WHOLE, [WHOLE]) is None
    assert [size for size in range(len(WHOLE)) if problem_of(WHOLE[:size], [SMALL, WHOLE]) is None] == []


def test_without_an_earlier_text_whatever_cuts_a_line_is_noticed() -> None:
    ends = {size for size in range(len(SMALL)) if problem_of(SMALL[:size]) is None}
    assert all(SMALL[:size].endswith("\n") for size in ends)
    assert len(ends) < SMALL.count("\n")  # of whole lines those that DVC itself could not read, too


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("\n", "empty"),
        ("\0" * 100 + "\n", "not readable"),
        ("schema: '2.0'\nstages: [\n", "not readable"),
        ("schema: '2.0'\nstages:\n  one:\n    deps: []\n", "not in DVC's form"),  # it lacks its command
        ("schema: '3.0'\nstages: {}\n", "not in DVC's form"),
        ("- one\n", "not in DVC's form"),
        ("schema: '2.0'\nstages:\n  one:\n    cmd: a\n  one:\n    cmd: b\n", "not readable"),  # twice
    ],
)
def test_what_dvc_could_not_read_is_noticed(text: str, problem: str) -> None:
    assert problem_of(text) == problem


@pytest.mark.parametrize("text", ["", SMALL[:50], SMALL[: SMALL.index("  two")], "\xff\n", "schema: '2.0'\n"])
def test_the_last_good_copy_comes_back(repository: Path, caplog: pytest.LogCaptureFixture, text: str) -> None:
    data = text.encode("latin-1")
    (repository / LOCK).write_bytes(data)
    mend(repository)
    assert (repository / LOCK).read_text() == SMALL
    assert (repository / DAMAGED).read_bytes() == data
    (record,) = caplog.records
    assert record.getMessage().startswith("dvc.lock was ")
    assert record.getMessage().endswith("the last good copy is back in its place")
    mend(repository)
    assert len(caplog.records) == 1


def test_a_new_lock_is_kept(repository: Path) -> None:
    newer = SMALL.replace("size: 10", "size: 11")
    write(repository, newer)
    mend(repository)
    write(repository, newer[:-20])
    mend(repository)
    assert (repository / LOCK).read_text() == newer


def test_a_missing_lock_stays_missing(repository: Path) -> None:
    (repository / LOCK).unlink()
    mend(repository)
    assert not (repository / LOCK).exists()


def test_in_a_fresh_clone_the_commit_has_the_good_copy(repository: Path) -> None:
    commit(repository)
    (repository / HOME / LOCK).unlink()
    write(repository, SMALL[:-20])
    mend(repository)
    assert (repository / LOCK).read_text() == (repository / HOME / LOCK).read_text() == SMALL


def test_of_two_good_copies_that_is_taken_which_the_damaged_one_was_like(repository: Path) -> None:
    """After a change of branch that of the commit."""
    other = SMALL.replace("one", "uno")
    write(repository, other)
    commit(repository)
    write(repository, other[:-20])
    mend(repository)
    assert (repository / LOCK).read_text() == other


def test_a_shorter_lock_of_the_commit_is_the_users_choice(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    shorter = SMALL[: SMALL.index("  two")]
    write(repository, shorter)
    commit(repository)
    mend(repository)
    assert (repository / LOCK).read_text() == (repository / HOME / LOCK).read_text() == shorter
    assert not caplog.records


def test_without_any_good_copy_dvc_begins_anew(repository: Path, caplog: pytest.LogCaptureFixture) -> None:
    (repository / HOME / LOCK).write_text("damaged, too")
    write(repository, SMALL[:-20])
    mend(repository)
    assert not (repository / LOCK).exists()
    assert (repository / DAMAGED).read_text() == SMALL[:-20]
    assert "there is no good copy" in caplog.text


def test_a_merge_is_left_to_the_user(repository: Path) -> None:
    text = SMALL.replace("      size: 10\n", "<<<<<<< HEAD\n      size: 10\n=======\n      size: 11\n>>>>>>> other\n")
    write(repository, text)
    with pytest.raises(DataError, match=r"dvc\.lock holds the conflict markers of a Git merge: settle them"):
        mend(repository)
    assert (repository / LOCK).read_text() == text
    assert (repository / HOME / LOCK).read_text() == SMALL


def test_while_dvc_is_writing_nothing_is_restored(repository: Path) -> None:
    from dvc.repo import Repo

    write(repository, SMALL[:-20])
    lock = Repo(str(repository)).lock
    with lock, pytest.raises(DomixError, match=r"dvc\.lock is not whole, and DVC is at work"):
        mend(repository)
    assert (repository / LOCK).read_text() == SMALL[:-20]


def test_one_command_at_a_time(repository: Path) -> None:
    with (
        guarded(repository),
        pytest.raises(DomixError, match=r"another command of Domix runs the pipeline in .*: wait for its end"),
        guarded(repository),
    ):
        raise AssertionError
    with guarded(repository):  # it is free again
        pass
