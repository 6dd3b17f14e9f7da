"""Check what the linters do not: sizes, addresses and machine paths in committed files; pre-commit runs it.

    python -m tools.check_tree [FILE ...]      the given files, or every tracked file

* No file is larger than LARGEST, unless it belongs to the bundled image set, which has a budget of its own.
* No file names the host of a package registry: where packages come from is the user's configuration, and the locks'
  hashes make sure that they are the right ones.
* No file names an absolute path below somebody's home or scratch folder.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 700_000  # bytes; the locks' hashes are the largest text
BUNDLED = "bundled/"
BUNDLED_TOTAL = 15_000_000  # bytes
REGISTRY = re.compile(
    r"(?:pypi|pythonhosted|npmjs|conda|anaconda)\.(?:org|com|io)|--?(?:extra-)?index[-]url|find[-]links", re.IGNORECASE
)
MACHINE = re.compile(r"(?<![\w.~$}/-])/(?:home|Users|root|tmp|work|farm|mnt)/[\w.-]+")
CONTAINER = ("Dockerfile", ".devcontainer/")  # their absolute paths are the container's own


def problems(names: Iterable[str], root: Path = ROOT) -> list[str]:
    """Say what is wrong with the files `names` (relative to `root`), one line a finding."""
    found: list[str] = []
    bundled = 0
    for name in names:
        data = (root / name).read_bytes()
        if name.startswith(BUNDLED):
            bundled += len(data)
        elif len(data) > LARGEST:
            found.append(f"{name}: {len(data):,} bytes, more than {LARGEST:,}; keep data out of Git (dvc add)")
        if b"\0" not in data:
            found += _text_problems(name, data.decode("utf-8", errors="replace"))
    if bundled > BUNDLED_TOTAL:
        found.append(f"{BUNDLED}: {bundled:,} bytes in all, more than {BUNDLED_TOTAL:,}")
    return found


def _text_problems(name: str, text: str) -> list[str]:
    checks = [(REGISTRY, "names a package registry; leave that to the user's configuration")]
    if not name.startswith(CONTAINER):
        checks.append((MACHINE, "names a path of one machine; make it relative"))
    return [
        f"{name}:{number}: {match.group()!r} {advice}"
        for number, line in enumerate(text.splitlines(), start=1)
        for pattern, advice in checks
        if (match := pattern.search(line))
    ]


def tracked_files(root: Path = ROOT) -> list[str]:
    """List the files that Git tracks and that exist, relative to `root`."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    return [name for name in listing.split("\0") if name and (root / name).is_file()]


def main() -> int:
    """Print the problems; return the exit code."""
    found = problems(sys.argv[1:] or tracked_files())
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
