"""Run the whole pipeline at smoke size in build/smoke, a copy of the working tree that has its own parameters.

    python -m tools.smoke

The user's params.yaml, dvc.lock, metrics and artifacts stay as they are. The copy holds what Git would commit (tracked
files as they lie here, and new files that are not ignored), or everything but outputs where there is no Git, as in the
image; presets/smoke.yaml is its params.yaml. It is a Git repository of its own, one commit a run: DVC needs one, and so
`dvc metrics diff HEAD~1` there says what changed since the last smoke run. Its outputs and cache are kept, so that
the second run does only what is new; `make clean` removes it all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "smoke"
OUTPUTS = ("artifacts", "build", "data", "metrics", "dvc.lock", ".git", ".venv", ".cache")  # never copied
DVC_OWN = ((".dvc", "cache"), (".dvc", "tmp"), (".dvc", "config.local"))
AUTHOR = ("-c", "user.name=smoke", "-c", "user.email=smoke@localhost", "-c", "commit.gpgsign=false")


def main() -> int:
    """Copy, run, commit, report; return the pipeline's exit code."""
    started = time.perf_counter()
    print(f"Running the pipeline of presets/smoke.yaml in {COPY.relative_to(ROOT)}.", flush=True)
    copy_tree(ROOT, COPY)
    shutil.copyfile(ROOT / "presets" / "smoke.yaml", COPY / "params.yaml")
    if not (COPY / ".git").exists():
        _git("init", "--quiet")
    environment = dict(os.environ)
    environment.pop("MLFLOW_TRACKING_URI", None)  # smoke runs do not belong among the user's experiments
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    code = subprocess.run([sys.executable, "-m", "domix", "repro"], cwd=COPY, env=environment, check=False).returncode
    if code:
        print(
            f"smoke: the pipeline failed in {COPY.relative_to(ROOT)} (above); make smoke continues it", file=sys.stderr
        )
        return code
    _git("add", "--all")
    _git("commit", "--quiet", "--allow-empty", "--message", f"Smoke run of {_revision()}")
    print(f"The smoke run took {time.perf_counter() - started:.0f} s.")
    return 0


def copy_tree(source: Path, destination: Path) -> None:
    """Make `destination` hold the project files of `source`, and drop those that `source` no longer has."""
    wanted = set(project_files(source))
    if destination.is_dir():
        for old in set(project_files(destination)) - wanted:
            (destination / old).unlink()
    for name in sorted(wanted):
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target, follow_symlinks=False)  # times too: DVC need not read it all again


def project_files(root: Path) -> list[Path]:
    """List the project's own files below `root`, relative to it: what Git would commit, less the pipeline's outputs."""
    if (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
        names = [Path(name) for name in listing.split("\0") if name]
    else:
        names = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return [name for name in names if _belongs(name) and (root / name).is_file()]


def _belongs(name: Path) -> bool:
    made = name.parts[0] in OUTPUTS or "__pycache__" in name.parts
    return not made and name.parts[:2] not in DVC_OWN


def _revision() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return found.stdout.strip() or "an exported tree"


def _git(*arguments: str) -> None:
    subprocess.run(["git", *AUTHOR, *arguments], cwd=COPY, check=True)


if __name__ == "__main__":
    sys.exit(main())
