"""Put one small fault after another into a copy of the code, and see whether the tests notice.

    python -m tools.mutants                           all faults of tools/mutants/*.toml
    python -m tools.mutants --only bootstrap --only "top k"   those whose name or file holds one of these
    python -m tools.mutants --list

Each fault (a mutant of the code) is one table of such a list; its title says what is wrong with the code then:

    ["images of a class are drawn whatever the seed"]
    file = "src/domix/evaluate/bootstrap.py"
    old = 'numpy_generator(seed, "bootstrap pictures")'
    new = 'numpy_generator(0, "bootstrap pictures")'
    tests = ["tests/parity/test_statistics.py::test_every_draw_follows_the_seed"]

`old` stands in the file exactly once; `tests` are as few and as fast as will do. They must pass without the fault, and
one of them must fail with it. The working tree is never touched.
"""

from __future__ import annotations

import argparse
import ast
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from tools.smoke import copy_tree

ROOT = Path(__file__).resolve().parent.parent
LISTS = "tools/mutants"
LONGEST = 300  # seconds: tests that take longer have noticed a fault which makes them wait for ever
KILLED, SURVIVED, MISFIT = "killed", "survived", "does not apply"


@dataclass(frozen=True)
class Mutant:
    """One fault: what stands in a file, what stands there instead, and the tests (pytest's names) that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def misfit(self, root: Path) -> str | None:
        """Return why the fault cannot be tried on the tree `root`; None: it can."""
        if not (root / self.file).is_file():
            return f"{self.file} is not there"
        text = (root / self.file).read_text(encoding="utf-8")
        if (count := text.count(self.old)) != 1:
            return f"{self.file} holds its old text {count} times, not once"
        try:
            if ast.dump(ast.parse(text)) == ast.dump(ast.parse(text.replace(self.old, self.new))):
                return f"{self.file} means the same with it"
        except SyntaxError as error:
            return f"{self.file} is no Python with it ({error})"
        missing = [test for test in self.tests if not _is_test(test, root)]
        return f"there is no test {missing[0]}" if missing else None if self.tests else "it names no test"


def _is_test(test: str, root: Path) -> bool:
    """Tell whether a file of tests is there, and holds the function, if the name goes on with one."""
    file, _, function = test.partition("::")
    if not (root / file).is_file():
        return False
    names = {
        n.name for n in ast.parse((root / file).read_text(encoding="utf-8")).body if isinstance(n, ast.FunctionDef)
    }
    return not function or function.partition("[")[0] in names


def read_lists(root: Path) -> list[Mutant]:
    """Read the faults of a tree, in the order of the lists and in them."""
    tables = [tomllib.loads(path.read_text(encoding="utf-8")) for path in sorted((root / LISTS).glob("*.toml"))]
    return [
        Mutant(name, fault["file"], fault["old"], fault["new"], tuple(fault["tests"]))
        for table in tables
        for name, fault in table.items()
    ]


def run_tests(copy: Path, tests: Sequence[str], *, limit: float | None) -> tuple[int, str]:
    """Run tests in a copy of the tree until one fails, which all do after `limit` seconds; return code and output."""
    paths = [str(copy / "src"), str(copy), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--hypothesis-seed=0", *tests]
    with subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the tests' own processes, too
            return 1, f"took more than {limit:g} s"
    return process.returncode, output


def try_mutant(mutant: Mutant, copy: Path) -> tuple[str, str]:
    """Put a fault into a copy, run its tests, take it out again; return what became of it, and more to print."""
    if (reason := mutant.misfit(copy)) is not None:
        return MISFIT, reason
    path = copy / mutant.file
    text, times = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    try:
        code, output = run_tests(copy, mutant.tests, limit=LONGEST)
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    if code not in (0, 1):
        return MISFIT, f"pytest ended with {code}:\n{output}"
    return SURVIVED if code == 0 else KILLED, ""


def try_all(mutants: Sequence[Mutant], root: Path, jobs: int) -> dict[str, list[str]]:
    """Try faults on copies of a tree, `jobs` at a time; return the names of those that met each end."""
    ends: dict[str, list[str]] = {KILLED: [], SURVIVED: [], MISFIT: []}
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder, ThreadPoolExecutor(jobs) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copy_tree(root, Path(folder, str(number)))
            copies.put(Path(folder, str(number)))

        def attempt(mutant: Mutant) -> None:
            copy, started = copies.get(), time.perf_counter()
            end, more = try_mutant(mutant, copy)
            copies.put(copy)
            ends[end].append(mutant.name)
            line = f"{sum(map(len, ends.values())):3} of {len(mutants)}  {end:<14}  {mutant.name}"
            print(f"{line} ({time.perf_counter() - started:.1f} s)", more, file=sys.stderr, flush=True)

        list(pool.map(attempt, mutants))
    return ends


def passing(mutants: Sequence[Mutant], root: Path) -> str | None:
    """Run all tests of some faults without any; return what pytest says where they do not pass."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_tree(root, Path(folder))
        tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
        code, output = run_tests(Path(folder), list(tests), limit=None)
    return None if code == 0 else output


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Try the faults asked for; return 1 if one survives or does not apply."""
    parser = argparse.ArgumentParser(prog="tools.mutants", description="See whether the tests notice faults.")
    parser.add_argument("--only", action="append", metavar="TEXT", help="faults whose name or file holds this")
    parser.add_argument("--list", action="store_true", help="print the faults, and try none")
    parser.add_argument("--jobs", type=int, default=1, help="faults at a time, each in a copy of its own (default 1)")
    asked = parser.parse_args(arguments)
    mutants = [m for m in read_lists(root) if not asked.only or any(o in m.name or o in m.file for o in asked.only)]
    if asked.list or not mutants:
        print("\n".join(f"{m.file}: {m.name}" for m in mutants) or "there is no such fault")
        return 0 if mutants else 1
    fitting = [mutant for mutant in mutants if mutant.misfit(root) is None]
    print(f"Running the tests of {len(fitting)} faults without any.", file=sys.stderr, flush=True)
    if fitting and (failure := passing(fitting, root)) is not None:
        print(f"{failure}\nmutants: the tests must pass before they can notice anything", file=sys.stderr)
        return 1
    ends = try_all(mutants, root, max(1, asked.jobs))
    for end in (SURVIVED, MISFIT):
        for name in ends[end]:
            print(f"{end}: {name}")
    print(f"Of {len(mutants)} faults {len(ends[KILLED])} were noticed.")
    return 0 if len(ends[KILLED]) == len(mutants) else 1


if __name__ == "__main__":
    sys.exit(main())
