"""What `make` does before the pipeline runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOW = "include Makefile\nshow:\n\t@echo $(PACKAGES) $(READY)\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A downloaded archive, as far as make needs it, with this environment in place."""
    root = tmp_path / "archive"
    (root / ".dvc").mkdir(parents=True)
    (root / "requirements").mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements/run.in", "requirements/dev.txt", ".dvc/config"):
        shutil.copy(ROOT / name, root / name)
    (root / ".venv").mkdir()
    (root / ".venv/bin").symlink_to(Path(sys.executable).parent)
    (root / "show.mk").write_text(SHOW)
    for name in make(root, "-f", "show.mk", "show").split():
        (root / name).touch()
    return root


def make(root: Path, *words: str) -> str:
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(root.parent)}
    command = ["make", "--no-print-directory", *words]
    return subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, text=True).stdout


def test_dvc_is_told_once_that_there_is_no_git_and_told_again_when_there_is(archive: Path) -> None:
    assert "This is no Git checkout" in make(archive, "scm")
    assert "no_scm = true" in (archive / ".dvc/config.local").read_text()
    assert make(archive, "scm") == ""
    subprocess.run(["git", "init", "-q"], cwd=archive, check=True)
    assert make(archive, "scm") == ""
    assert "no_scm" not in (archive / ".dvc/config.local").read_text()
