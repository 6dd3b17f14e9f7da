"""The tool that puts two experiments side by side: folders and revisions, and one sentence where there is nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from domix.runtime.errors import DataError, ParameterError
from domix.settings.load import load
from tests.commands import domix
from tests.fake_report import Fake

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("test_domain: painting", "test_domain: clipart")


def experiment(folder: Path, text: str, **kwargs) -> Path:
    Fake(folder / "artifacts", classes=12, test_classes=6, **kwargs).write()
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    folder = experiment(tmp_path / "here", TEXT)
    monkeypatch.chdir(folder)
    return folder


def test_two_folders_become_one_page(workspace, tmp_path, capsys):
    other = experiment(tmp_path / "other", TEXT.replace("lr: 0.001", "lr: 0.002"))
    domix(load(TEXT), "compare", str(other), ".", "--out", "page.html")
    text = Path("page.html").read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>") and "this workspace" in text
    assert "train.lr</th>" in text and ">0.002<" in text and ">0.001<" in text
    assert capsys.readouterr().out == "page.html\n"


def git(*arguments: str) -> None:
    command = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", *arguments]
    subprocess.run(command, check=True, capture_output=True)


def repository(workspace: Path) -> None:
    """Make the workspace a repository of Git and DVC, and commit all of it."""
    git("init", "--quiet")
    (workspace / ".dvc").mkdir()
    (workspace / ".dvc" / "config").write_text("", encoding="utf-8")
    git("add", "--all")
    git("commit", "--quiet", "--message", "one")


def test_a_revision_is_read_out_of_the_repository(workspace):
    """Here the tables are in Git, which DVC's view of a revision shows as it shows its cache."""
    repository(workspace)
    Path("params.yaml").write_text(TEXT.replace("batch: 128", "batch: 64"), encoding="utf-8")
    domix(load(TEXT), "compare", "HEAD", ".", "--out", "page.html")
    text = Path("page.html").read_text(encoding="utf-8")
    assert "revision HEAD" in text and "train.batch</th>" in text


def test_what_is_no_experiment_is_told_in_one_sentence(workspace, tmp_path):
    repository(workspace)
    with pytest.raises(ParameterError, match=r"'nonsense' is neither a folder with params\.yaml nor a commit"):
        domix(load(TEXT), "compare", "nonsense", ".")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "params.yaml").write_text(TEXT, encoding="utf-8")
    with pytest.raises(DataError, match=r"bare has no evaluation within reach: run dvc repro there"):
        domix(load(TEXT), "compare", str(bare), ".")
