"""Results kept by what they depend on: made once, whole or not at all, and made again where they are damaged."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from domix.runtime import kept as kept_module
from domix.runtime.errors import DomixError
from domix.runtime.kept import Kept

KEY = {"weights": "abc", "layers": None, "outputs": [1, 2]}


class Maker:
    """Makes a result of two files, and counts how often."""

    def __init__(self, text: str = "result") -> None:
        self.text, self.made = text, 0

    def __call__(self, folder: Path) -> None:
        self.made += 1
        (folder / "one.txt").write_text(self.text)
        (folder / "two.txt").write_text("")


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "deep" / "kept")


def given(kept: Kept, make: Callable[[Path], object], key: dict[str, object] | None = None) -> dict[str, str]:
    out = kept.folder.parents[1] / f"out{len(list(kept.folder.parents[1].glob('out*')))}"
    out.mkdir()
    kept.give(KEY if key is None else key, out, make)
    return {path.name: path.read_text() for path in out.iterdir()}


def home(kept: Kept) -> Path:
    return next(path for path in kept.folder.iterdir() if path.is_dir())


def test_a_result_is_made_once_and_given_often(kept: Kept) -> None:
    make = Maker()
    assert not kept.has(KEY)
    assert given(kept, make) == given(kept, make) == {"one.txt": "result", "two.txt": ""}
    assert make.made == 1
    assert kept.has(dict(reversed(KEY.items())))  # whatever the order


@pytest.mark.parametrize("change", [{"weights": "xyz"}, {"layers": []}, {"outputs": [2, 1]}, {"more": 1}])
def test_another_key_has_a_result_of_its_own(kept: Kept, change: dict[str, object]) -> None:
    given(kept, Maker())
    other = KEY | change
    assert not kept.has(other)
    assert given(kept, Maker("other"), other)["one.txt"] == "other"
    assert given(kept, Maker("never"))["one.txt"] == "result"


def test_files_take_no_room_twice_where_links_are_possible(kept: Kept) -> None:
    given(kept, Maker())
    assert (kept.folder.parents[1] / "out0/one.txt").samefile(home(kept) / "one.txt")


def test_files_are_copied_where_links_are_not(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert given(kept, Maker()) == {"one.txt": "result", "two.txt": ""}
    assert not (kept.folder.parents[1] / "out0/one.txt").samefile(home(kept) / "one.txt")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "other bytes": lambda home: (home / "one.txt").write_text("resulT"),
    "cut": lambda home: (home / "one.txt").write_text("re"),
    "a file gone": lambda home: (home / "two.txt").unlink(),
    "nothing said": lambda home: (home / "about.json").unlink(),
    "no JSON": lambda home: (home / "about.json").write_text("{"),
    "other JSON": lambda home: (home / "about.json").write_text('["files"]'),
    "other list": lambda home: (home / "about.json").write_text('{"files": {"one.txt": 3}}'),
    "another's": lambda home: (home / "about.json").write_text(
        (home / "about.json").read_text().replace('"abc"', '"xyz"')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_what_is_damaged_is_made_again(
    kept: Kept, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    make = Maker()
    given(kept, make)
    damage(home(kept))
    assert given(kept, make) == {"one.txt": "result", "two.txt": ""}
    assert make.made == 2
    assert "is damaged: it is made again" in caplog.text
    given(kept, make)
    assert make.made == 2


def test_deleting_what_was_given_harms_nothing(kept: Kept) -> None:
    make = Maker()
    given(kept, make)
    for path in (kept.folder.parents[1] / "out0").iterdir():
        path.unlink()
    assert given(kept, make)["one.txt"] == "result"
    assert make.made == 1


def test_what_fails_leaves_nothing(kept: Kept) -> None:
    def fail(folder: Path) -> None:
        (folder / "one.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        given(kept, fail)
    assert not kept.has(KEY)
    assert given(kept, Maker())["one.txt"] == "result"


def test_a_full_disk_is_told_in_a_sentence(kept: Kept) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DomixError, match=r"^no space left to write .*: free some disk space and run again$"):
        given(kept, full)
    assert not kept.has(KEY)


def test_processes_that_come_together_make_it_once(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    make, begun, others = Maker(), threading.Event(), threading.Event()

    def slow(folder: Path) -> None:
        begun.set()
        assert others.wait(30)
        make(folder)

    out = [kept.folder.parents[1] / name for name in ("a", "b")]
    for folder in out:
        folder.mkdir()
    threads = [threading.Thread(target=kept.give, args=(KEY, folder, slow)) for folder in out]
    with caplog.at_level("INFO"):
        threads[0].start()
        assert begun.wait(30)
        threads[1].start()
        while "waiting for it" not in caplog.text:
            assert threads[1].is_alive()
        others.set()
        for thread in threads:
            thread.join(30)
    assert make.made == 1
    assert [(folder / "one.txt").read_text() for folder in out] == ["result", "result"]


def test_the_files_can_be_read_where_they_lie(kept: Kept) -> None:
    make = Maker()
    assert kept.open(KEY, make) == kept.open(KEY, make) == home(kept)
    assert (home(kept) / "one.txt").read_text() == "result"
    assert make.made == 1


@pytest.mark.parametrize(("damage", "noticed"), [("cut", True), ("a file gone", True), ("other bytes", False)])
def test_large_results_are_checked_by_their_sizes(tmp_path: Path, damage: str, noticed: bool) -> None:
    make, kept = Maker(), Kept(tmp_path / "kept", by_content=False)
    DAMAGE[damage](kept.open(KEY, make))
    kept.open(KEY, make)
    assert make.made == 1 + noticed


def test_a_whole_result_can_be_used_where_nothing_can_be_written(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    given(kept, Maker())
    monkeypatch.setattr(kept_module, "alone", lambda *_: pytest.fail("took the lock"))
    assert given(kept, Maker("never"))["one.txt"] == "result"


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"^may not write \S+: make the folder \S+ writable and run again$"
    with monkeypatch.context() as patch, pytest.raises(DomixError, match=message):
        patch.setattr(Path, "mkdir", refuse)
        kept.open(KEY, Maker())
    with monkeypatch.context() as patch, pytest.raises(DomixError, match=message):
        patch.setattr("filelock.FileLock.acquire", refuse)
        kept.open(KEY, Maker())
    kept.folder.rmdir()
    kept.folder.write_text("a file")
    with pytest.raises(DomixError, match=r"a file stands where a folder is needed"):
        kept.open(KEY, Maker())


MAKING = """
import sys, time
from pathlib import Path
from domix.runtime.kept import Kept

def make(folder):
    (folder / "one.txt").write_text("half")
    print("begun", flush=True)
    sys.stdin.readline()
    (folder / "one.txt").write_text("whole")

print(Kept(Path(sys.argv[1])).open({"name": sys.argv[2]}, make).name, flush=True)
"""


def making(folder: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that makes a result until it is told to go on."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", MAKING, str(folder), name], text=True, **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def test_what_a_killed_process_has_left_is_removed_and_a_living_one_s_is_not(tmp_path: Path) -> None:
    killed, living = making(tmp_path, "a"), making(tmp_path, "b")
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.glob(".*.tmp-*"))) == 2
    kept, make = Kept(tmp_path), Maker()
    kept.open({"name": "c"}, make)
    assert len(list(tmp_path.glob(".*.tmp-*"))) == 1
    out, _ = living.communicate("go on\n", timeout=60)
    assert living.returncode == 0
    assert (tmp_path / out.strip() / "one.txt").read_text() == "whole"
    assert (kept.open({"name": "a"}, make) / "one.txt").read_text() == "result"
    assert (kept.open({"name": "b"}, make) / "one.txt").read_text() == "whole"
    assert make.made == 2
    assert not list(tmp_path.glob(".*.tmp-*"))


def test_another_process_waits_for_the_one_that_makes_it(tmp_path: Path) -> None:
    first, make = making(tmp_path, "a"), Maker()
    found: list[Path] = []
    second = threading.Thread(target=lambda: found.append(Kept(tmp_path).open({"name": "a"}, make)))
    second.start()
    second.join(0.3)
    assert second.is_alive() and not found
    first.communicate("go on\n", timeout=60)
    second.join(60)
    assert (found[0] / "one.txt").read_text() == "whole"
    assert make.made == 0
