"""Tell which stages would run again for what has changed in the code since they last ran, before `dvc repro` does it.

    python -m tools.stage_deps                each such stage, and the files in question
    python -m tools.stage_deps train embed    list all that these stages use of src/ and stages/

A stage uses the modules that its script imports, directly or through others, and the data files that these name
(domix.runtime.closure, stages/code.py). Comments and docstrings do not count.
"""

from __future__ import annotations

import sys
from pathlib import Path

from domix.runtime import closure
from domix.runtime.files import read_json
from stages.code import code_of, digests, programs

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = Path("artifacts/code")


def imports_of(path: Path, root: Path) -> list[str]:
    """List the dotted names that a file of a repository imports, `from a import b` as both a and a.b."""
    return closure.imports_of(path, {"domix": root / "src" / "domix", "stages": root / "stages"})


def modules_of(script: Path, root: Path) -> list[str]:
    """List what a script of a repository uses of src/domix and stages/, modules and data; paths relative to `root`."""
    return list(digests(code_of(root), [script], root))


def used(root: Path) -> dict[str, dict[str, str]]:
    """Return what each stage of a repository uses: stage -> file -> digest."""
    code = code_of(root)
    return {name: digests(code, scripts, root) for name, scripts in programs(root)}


def changes(root: Path) -> dict[str, list[str]]:
    """Return, by stage, the files that have changed since the stage `code` last ran; stages without any are left out.

    All files of a stage count of which nothing is known.
    """
    found = {}
    for name, now in used(root).items():
        path = root / WRITTEN / f"{name}.json"
        before = read_json(path) if path.is_file() else {}
        changed = sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))
        if changed:
            found[name] = changed
    return found


def main(*stages: str) -> int:
    """Print; return the exit code."""
    known = used(ROOT) if stages else changes(ROOT)
    unknown = [name for name in stages if name not in known]
    if unknown:
        print(f"there is no stage {unknown[0]!r}, but {', '.join(known)}", file=sys.stderr)
        return 2
    for name in stages or known:
        print(f"{name}:", *known[name], sep="\n    ")
    if not known:
        print("The code of no stage has changed.")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
