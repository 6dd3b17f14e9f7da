"""The command `domix study`: this workspace, sweeps, and revisions and experiments of a DVC repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from domix.cli.studies.revisions import experiments, of_revisions
from domix.project.common import load_params
from domix.report.paper.collection import collect
from domix.runtime.errors import DataError, ParameterError
from tests.commands import domix
from tests.tiny import REPOSITORY
from tools.made_study import Asked, make_sweep, make_workspace

ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "src"))),
    "DVC_NO_ANALYTICS": "true",
    "OMP_NUM_THREADS": "1",
}
GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false")
DVC = (sys.executable, "-m", "dvc")
TINY = Asked(
    test_domains=("clipart", "sketch"),
    mixtures=("natural-only", "cg-high"),
    seeds=(0,),
    checkpoints=(4,),
    classes=8,
    test_classes=3,
)
OF_MAIN = "metrics-of-main.parquet"
PIPELINE = """
stages:
  mixtures:
    cmd: "false"
    deps: [artifacts/shards]
    outs: [artifacts/mixtures]
  evaluate:
    cmd: "false"
    deps: [artifacts/mixtures]
    outs: [artifacts/eval]
"""


def call(root: Path, *words: str) -> str:
    done = subprocess.run(words, cwd=root, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository: its commit `first` is of clipart, `main` of sketch, an experiment on top of that."""
    root = tmp_path_factory.mktemp("history")
    call(root, "git", "init", "-q", "-b", "main")
    call(root, *DVC, "init", "-q")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / ".gitignore").write_text("/artifacts\n")
    (root / "artifacts" / "shards").mkdir(parents=True)
    (root / "artifacts" / "shards" / "index.parquet").write_text("images")
    commit(root, "clipart", TINY, "first")
    commit(root, "sketch", TINY, "second")
    shutil.copy(root / "artifacts" / "eval" / "metrics.parquet", root / OF_MAIN)
    make_workspace(root, "sketch", replace(TINY, seeds=(1,)))
    (root / "dvc.lock").unlink()
    call(root, *DVC, "commit", "-q", "-f")
    call(root, *DVC, "exp", "save", "-q", "-n", "other-seed")
    return root


def commit(root: Path, test_domain: str, asked: Asked, tag: str) -> None:
    make_workspace(root, test_domain, asked)
    (root / "dvc.lock").unlink()  # DVC's own says what the images are
    call(root, *DVC, "commit", "-q", "-f")
    call(root, "git", "add", "-A")
    call(root, *GIT, "commit", "-q", "-m", tag)
    call(root, "git", "tag", tag)


def study(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.chdir(root)
    domix(load_params(), "study", *arguments)


def test_two_revisions_are_one_study(history: Path) -> None:
    with of_revisions(history, ["first", "main"]) as places:
        found = collect(places)
        assert {place.data for place in places} == {places[0].data}
        assert places[0].data
    assert found.test_domains == ["clipart", "sketch"]
    assert found.places == ["revision first", "revision main"]
    assert (found.asked, found.mark, found.notes) == (4, "", [])
    then = pd.read_parquet(history / OF_MAIN)
    of_main = (
        found.tables["metrics"].query("test_domain == 'sketch'").drop(columns="test_domain").reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(of_main, then)


def test_experiments_are_listed_by_dvc(history: Path) -> None:
    assert experiments(history) == ["other-seed"]
    with of_revisions(history, experiments(history)) as places:
        assert [(run.mixture, run.seed) for run in places[0].runs] == [("natural-only", 1), ("cg-high", 1)]
        assert collect(places).test_domains == ["sketch"]


def test_without_experiments_one_sentence(history: Path, tmp_path: Path) -> None:
    root = tmp_path / "clone"
    call(tmp_path, "git", "clone", "-q", str(history), str(root))
    with pytest.raises(ParameterError, match="DVC has none on this commit"):
        experiments(root)


def test_an_unknown_revision_is_one_sentence(history: Path) -> None:
    with pytest.raises(ParameterError, match="--rev 'nowhere' is no commit"), of_revisions(history, ["nowhere"]):
        pass


def test_what_is_not_in_the_cache_says_what_to_run(history: Path, tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(history, root)
    lock = call(root, "git", "show", "first:dvc.lock")
    digest = lock.split("path: artifacts/eval")[1].split("md5: ")[1].split(".dir")[0]
    shutil.rmtree(root / ".dvc" / "tmp")
    (root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / f"{digest[2:]}.dir").unlink()
    with of_revisions(root, ["first", "main"]) as places:
        found = collect(places)
    assert found.test_domains == ["sketch"]
    assert found.mark == "incomplete: 2 of 4 runs"
    assert len(found.notes) == 1
    assert "not all in DVC's cache: run git checkout first" in found.notes[0]
    assert "dvc pull" in found.missing[0].why
    with of_revisions(root, ["first"]) as places, pytest.raises(DataError, match="dvc exp apply first"):
        collect(places)


def test_the_command_shows_a_sweep_and_says_what_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    make_sweep(tmp_path, replace(TINY, unfinished=("sketch",), states={"sketch/cg-high-0": "failed"}))
    shutil.copy(REPOSITORY / "presets" / "mini.yaml", tmp_path / "params.yaml")
    stale = tmp_path / "view" / "study.json"  # of a view before: it is replaced
    stale.parent.mkdir()
    stale.write_text("{}")
    study(tmp_path, monkeypatch, "--sweep", "made", "--out", "view")
    assert capsys.readouterr().out.strip() == "view/index.html"
    assert "study: incomplete: 2 of 4 runs" in caplog.text
    assert "train@cg-high-0.log" in (tmp_path / "view" / "tables" / "missing.md").read_text().replace("\\", "")
    assert stale.read_text() != "{}"


def test_the_command_does_not_replace_a_folder_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_workspace(tmp_path, "clipart", TINY)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "draft.tex").write_text("years of work")
    with pytest.raises(ParameterError, match="--out papers is there already and holds no study view"):
        study(tmp_path, monkeypatch, "--out", "papers")
    assert (tmp_path / "papers" / "draft.tex").read_text() == "years of work"


def test_a_workspace_without_results_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(REPOSITORY / "presets" / "mini.yaml", tmp_path / "params.yaml")
    with pytest.raises(DataError, match="nothing to show: none of the 5 runs asked for is evaluated"):
        study(tmp_path, monkeypatch)
    assert not (tmp_path / "artifacts").exists()
