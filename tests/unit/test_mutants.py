"""The list of faults that tests must notice: every one can still be tried, and the program tells what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import mutants
from tools.mutants import Mutant

ROOT = Path(__file__).resolve().parents[2]
LISTED = mutants.read_lists(ROOT)
LEAST = 60


def packages() -> set[str]:
    """The packages of domix, and those within data, which is as large as all others together."""
    folders = [path.parent for path in (ROOT / "src/domix").glob("*/__init__.py")]
    parts = [path.parent for path in (ROOT / "src/domix/data").glob("*/__init__.py")]
    return {path.relative_to(ROOT).as_posix() for path in (*folders, *parts) if path.name != "data"}


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: mutant.name)
def test_every_fault_can_still_be_tried(mutant: Mutant) -> None:
    assert mutant.misfit(ROOT) is None


def test_there_are_faults_of_every_package() -> None:
    assert len(LISTED) >= LEAST
    assert len({mutant.name for mutant in LISTED}) == len(LISTED)
    untried = {package for package in packages() if not any(m.file.startswith(f"{package}/") for m in LISTED)}
    assert untried == set()


CODE = "def largest(values):\n    return max(values)\n\n\ndef count(values):\n    return len(values)\n"
TESTS = (
    "from domix.numbers import count, largest\n\n\ndef test_largest():\n    assert largest([1, 3, 2]) == 3\n\n\n"
    "def test_count():\n    assert count([1]) == 1\n"
)


def fault(name: str, old: str, new: str, test: str = "test_largest", file: str = "src/domix/numbers.py") -> str:
    return f'["{name}"]\nfile = "{file}"\nold = "{old}"\nnew = "{new}"\ntests = ["tests/test_numbers.py::{test}"]\n'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small project with a test that fails where the least is taken for the largest."""
    files = {"src/domix/__init__.py": "", "src/domix/numbers.py": CODE, "tests/test_numbers.py": TESTS}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(tree: Path, *words: str, faults: str) -> int:
    (tree / mutants.LISTS).mkdir(parents=True, exist_ok=True)
    (tree / mutants.LISTS / "numbers.toml").write_text(faults)
    return mutants.main(words, tree)


NOTICED = fault("the least", "max(values)", "min(values)")
MISSED = fault("one too many", "len(values)", "len(values) or 1", "test_count")


def test_a_fault_that_is_noticed_and_one_that_is_not(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, faults=NOTICED + MISSED) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == ["survived: one too many", "Of 2 faults 1 were noticed."]
    assert "1 of 2  killed          the least" in said.err
    assert (tree / "src/domix/numbers.py").read_text() == CODE
    assert run(tree, "--only", "least", "--jobs", "2", faults=NOTICED + MISSED) == 0
    assert capsys.readouterr().out == "Of 1 faults 1 were noticed.\n"


@pytest.mark.parametrize(
    ("faults", "says"),
    [
        (fault("x", "min(values)", "0"), "src/domix/numbers.py holds its old text 0 times, not once"),
        (fault("x", "(values)", "()"), "src/domix/numbers.py holds its old text 4 times, not once"),
        (fault("x", "max(values)", "max( values )"), "src/domix/numbers.py means the same with it"),
        (fault("x", "max(values)", "max("), "src/domix/numbers.py is no Python with it"),
        (fault("x", "max(values)", "0", "test_least"), "there is no test tests/test_numbers.py::test_least"),
        (fault("x", "a", "b", file="src/domix/gone.py"), "src/domix/gone.py is not there"),
    ],
)
def test_a_fault_that_cannot_be_tried_is_named(
    tree: Path, capsys: pytest.CaptureFixture[str], faults: str, says: str
) -> None:
    assert run(tree, faults=faults) == 1
    said = capsys.readouterr()
    assert says in said.err
    assert said.out == "does not apply: x\nOf 1 faults 0 were noticed.\n"


def test_a_fault_that_makes_a_test_wait_for_ever_is_noticed(
    tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "LONGEST", 5)
    assert run(tree, faults=fault("no end", "max(values)", "next(x for x in iter(int, 1) if x)")) == 0
    assert "1 of 1  killed          no end" in capsys.readouterr().err


def test_tests_that_fail_anyway_notice_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tree / "tests/test_numbers.py").write_text(TESTS.replace("== 3", "== 4"))
    assert run(tree, faults=NOTICED) == 1
    assert "the tests must pass before they can notice anything" in capsys.readouterr().err


def test_a_name_that_no_fault_has(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tree, "--only", "most", faults=NOTICED) == 1
    assert "there is no such fault" in capsys.readouterr().out
    assert run(tree, "--list", faults=NOTICED) == 0
    assert capsys.readouterr().out == "src/domix/numbers.py: the least\n"
