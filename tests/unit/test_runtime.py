"""Files are written whole or not at all, refusals are one sentence, random streams depend on seed and name alone."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from domix.runtime import files, seeds
from domix.runtime.errors import DataError, DomixError, Interrupted, ParameterError

SOURCE = Path(files.__file__).resolve().parents[2]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_and_nothing_else_stays(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "note.txt"
    files.write_text(target, "h\u00e9llo\n")
    assert target.read_text(encoding="utf-8") == "h\u00e9llo\n"
    assert names_in(target.parent) == ["note.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "note.txt"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError), files.atomic_file(target) as temporary:
        temporary.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert target.read_text(encoding="utf-8") == "old"
    assert names_in(tmp_path) == ["note.txt"]


def test_a_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "stale").write_text("x", encoding="utf-8")
    with files.atomic_folder(target) as temporary:
        (temporary / "fresh").write_text("y", encoding="utf-8")
        assert names_in(target) == ["stale"]
    assert names_in(target) == ["fresh"]
    assert names_in(tmp_path) == ["out"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "stale").write_text("x", encoding="utf-8")
    with pytest.raises(RuntimeError), files.atomic_folder(target) as temporary:
        (temporary / "half").write_text("y", encoding="utf-8")
        raise RuntimeError
    assert names_in(target) == ["stale"]
    assert names_in(tmp_path) == ["out"]


def test_a_folder_may_replace_a_file_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for name in ("file", "link"):
        with files.atomic_folder(tmp_path / name) as temporary:
            (temporary / "fresh").write_text("y", encoding="utf-8")
        assert names_in(tmp_path / name) == ["fresh"]
    assert not (tmp_path / "link").is_symlink()
    assert names_in(tmp_path / "elsewhere") == []


def test_a_folder_may_replace_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    """As what a cleaned cache leaves of an output: nothing is made where the link led."""
    (tmp_path / "link").symlink_to(tmp_path / "gone", target_is_directory=True)
    with files.atomic_folder(tmp_path / "link") as temporary:
        (temporary / "fresh").write_text("y", encoding="utf-8")
    assert names_in(tmp_path / "link") == ["fresh"]
    assert names_in(tmp_path) == ["link"] and not (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("there", [True, False])
def test_a_file_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path, there: bool) -> None:
    if there:
        (tmp_path / "elsewhere").write_text("theirs", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    files.write_text(tmp_path / "link", "ours")
    assert (tmp_path / "link").read_text(encoding="utf-8") == "ours" and not (tmp_path / "link").is_symlink()
    assert names_in(tmp_path) == (["elsewhere", "link"] if there else ["link"])
    assert not there or (tmp_path / "elsewhere").read_text(encoding="utf-8") == "theirs"


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves an empty file under the final name."""
    synced: list[tuple[int, bool]] = []
    target, fsync = tmp_path / "note.txt", os.fsync

    def noting(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, target.exists()))

    monkeypatch.setattr(os, "fsync", noting)
    with files.atomic_file(target) as temporary:
        temporary.write_text("whole", encoding="utf-8")
        assert synced == []
    assert synced == [(target.stat().st_ino, False)]


KILLED = """
import sys, time
from pathlib import Path
from domix.runtime import files
with files.{helper}(Path(sys.argv[1])) as temporary:
    (temporary / "half" if temporary.is_dir() else temporary).write_text("half", encoding="utf-8")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("helper", ["atomic_file", "atomic_folder"])
def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path: Path, helper: str) -> None:
    target = tmp_path / "out"
    command = [sys.executable, "-c", KILLED.format(helper=helper), str(target)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(SOURCE)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not target.exists()
    (left,) = names_in(tmp_path)
    assert left.startswith(".out.tmp-")
    with getattr(files, helper)(target) as temporary:
        (temporary / "whole" if temporary.is_dir() else temporary).write_text("whole", encoding="utf-8")
    assert names_in(tmp_path) == ["out"]


def refuse(code: int) -> NoReturn:
    raise OSError(code, os.strerror(code))


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (errno.ENOSPC, "no space left to write {path}: free some disk space"),
        (errno.EDQUOT, "no space left to write {path}"),
        (errno.EACCES, "may not write {path}: make the folder {parent} writable"),
        (errno.EPERM, "may not write {path}"),
        (errno.EROFS, "may not write {path}"),
    ],
)
def test_a_refusal_is_one_sentence_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    target = tmp_path / "out.json"

    def fsync(descriptor: int) -> None:
        refuse(code)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DomixError) as caught:
        files.write_json(target, {"a": 1})
    assert says.format(path=target, parent=tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names_in(tmp_path) == []


def test_a_full_disk_while_filling_a_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(DomixError, match="no space left"), files.atomic_folder(target) as temporary:
        (temporary / "half").write_text("y", encoding="utf-8")
        refuse(errno.ENOSPC)
    assert names_in(tmp_path) == ["out"]


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder that may not be written; root, whom permissions do not bind, becomes nobody for the while."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.chmod(0o755)


def test_a_read_only_folder_is_named(read_only: Path) -> None:
    with pytest.raises(DomixError, match=r"make the folder .*locked writable"):
        files.write_text(read_only / "note.txt", "x")


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x", encoding="utf-8")
    with pytest.raises(DomixError, match="a file stands where a folder is needed"):
        files.write_text(tmp_path / "taken" / "note.txt", "x")


def test_other_errors_of_the_system_keep_their_trace(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), files.explain(tmp_path):
        refuse(errno.EIO)


def test_json_keeps_order_and_text(tmp_path: Path) -> None:
    tree = {"b": [1, 2.5], "a": "\u00e9"}
    files.write_json(tmp_path / "x.json", tree)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text.index('"b"') < text.index('"a"')
    assert "\u00e9" in text
    assert text.endswith("}\n")
    assert files.read_json(tmp_path / "x.json") == tree


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(tmp_path / "x.json", {"a": value})
    assert names_in(tmp_path) == []


def test_a_missing_or_damaged_json_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(DataError, match=r"is missing$") as caught:
        files.read_json(path)
    assert caught.value.remake == path
    for content in (b"{", b"\xff\xfe", b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not valid JSON") as caught:
            files.read_json(path)
        assert caught.value.remake == path


@pytest.mark.parametrize(
    "data",
    [b"one\ntwo", b"one\r\ntwo\r\n", b"\xef\xbb\xbfone\rtwo\n\n \n", b"one \t\ntwo  \n", "one\r\ntwo".encode("utf-16")],
)
def test_lines_are_read_as_any_editor_leaves_them(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "list.txt").write_bytes(data)
    assert files.read_lines(tmp_path / "list.txt") == ["one", "two"]


def test_a_line_ends_where_a_line_ends_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(" one\n\ntwo\u2028\x85\x0cthree\n".encode())
    assert files.read_lines(tmp_path / "list.txt") == [" one", "", "two\u2028\x85\x0cthree"]


def test_texts_that_cannot_be_read_are_told_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with pytest.raises(DataError, match=r"list\.txt is missing: ask for it$"):
        files.read_text(path, mend="ask for it")
    path.write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"list\.txt is not UTF-8 text: ask for it$"):
        files.read_text(path, mend="ask for it")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\): ask for it$"):
        files.read_text(tmp_path, mend="ask for it")


def test_the_digest_of_a_file_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert files.sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_seeds_depend_on_seed_and_every_name() -> None:
    streams = [(0, "a"), (1, "a"), (0, "b"), (0, "a", "b"), (0, "ab"), (0, "a", 0), (0,)]
    derived = [seeds.derive(seed, *names) for seed, *names in streams]
    assert len(set(derived)) == len(streams)
    assert all(0 <= value < 2**63 for value in derived)


def test_seeds_are_the_same_in_every_release_and_process() -> None:
    assert seeds.derive(0, "mixtures") == 8798815968806234621  # sha256sum of "0\\x1fmixtures", first 16 digits, halved
    draws = [seeds.numpy_generator(0, "x").integers(1 << 30, size=3).tolist() for _ in range(2)]
    assert draws[0] == draws[1]


def test_generators_give_independent_streams() -> None:
    first = seeds.numpy_generator(0, "a").standard_normal(1000)
    second = seeds.numpy_generator(0, "b").standard_normal(1000)
    assert abs(float(np.corrcoef(first, second)[0, 1])) < 0.15


def test_the_torch_generator_follows_the_seed() -> None:
    import torch

    def draw(*names: Any) -> list[float]:
        return torch.rand(3, generator=seeds.torch_generator(0, *names)).tolist()

    assert draw("a") == draw("a")
    assert draw("a") != draw("b")


def test_every_error_for_users_is_a_domix_error() -> None:
    for error in (ParameterError, DataError, Interrupted):
        assert issubclass(error, DomixError)
    assert issubclass(ParameterError, ValueError)


@pytest.mark.parametrize("helper", ["atomic_file", "atomic_folder"])
def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path, helper: str) -> None:
    """Whether it is a file, a folder or a link, and whatever is written now; of another name it is another's."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f".out.tmp-{gone.pid}-0a0a0a0a").mkdir()
    (tmp_path / f".out.tmp-{gone.pid}-0a0a0a0b").write_text("half", encoding="utf-8")
    (tmp_path / f".out.tmp-{gone.pid}-0a0a0a0c").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / f".out2.tmp-{gone.pid}-0a0a0a0a").write_text("half", encoding="utf-8")
    (tmp_path / f".out.tmp-{os.getpid()}-0b0b0b0a").mkdir()
    (tmp_path / f".out.tmp-{os.getpid()}-0b0b0b0b").write_text("half", encoding="utf-8")
    with getattr(files, helper)(tmp_path / "out") as temporary:
        (temporary / "file" if temporary.is_dir() else temporary).write_text("new", encoding="utf-8")
    assert names_in(tmp_path) == [
        f".out.tmp-{os.getpid()}-0b0b0b0a",
        f".out.tmp-{os.getpid()}-0b0b0b0b",
        f".out2.tmp-{gone.pid}-0a0a0a0a",
        "elsewhere",
        "out",
    ]
