"""A repository at any path: what pastes the path into another syntax quotes it."""

from __future__ import annotations

import sqlite3
import subprocess
from pathlib import Path

import pytest
from dvc.config import Config

from domix.cli.sweeps.workspaces import Study, bring_up_to_date
from domix.runtime.tracking import mlflow_store, mlflow_tracker

ROOT = Path(__file__).resolve().parents[2]
PLACES = ["what?", "My%20Repo", "C# 100% [1]", "größe; é 'q' \"r\""]


@pytest.fixture(params=PLACES)
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder of an odd name."""
    folder = tmp_path / "odd" / request.param
    folder.mkdir(parents=True)
    return folder


def test_the_tracking_database_lies_in_its_folder(odd: Path) -> None:
    """An address made of a path by hand is cut at `?` and decoded at `%`."""
    asked = {"enabled": True, "uri": None, "root": odd, "experiment": "domix", "run_name": "x", "tags": {"a": "b"}}
    tracker = mlflow_store.open_tracker(**asked)
    tracker.params({"p": 1})
    tracker.file("note.txt", b"said")
    tracker.finish(succeeded=True)
    assert isinstance(tracker, mlflow_tracker.MlflowTracker)
    assert [path.name for path in odd.parent.iterdir()] == [odd.name]
    with sqlite3.connect(odd / mlflow_store.DATABASE) as database:
        assert database.execute("SELECT key, value FROM params").fetchall() == [("p", "1")]
    (note,) = odd.rglob("note.txt")
    assert note.read_bytes() == b"said"


def test_a_sweep_s_copy_shares_the_repository_s_cache(odd: Path) -> None:
    (odd / ".dvc").mkdir()
    for name in ("params.yaml", ".dvc/config"):
        (odd / name).write_bytes((ROOT / name).read_bytes())
    who = ("-c", "user.name=x", "-c", "user.email=x@localhost")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-qm", "x")):
        subprocess.run(["git", *words], cwd=odd, check=True)
    copy, study = odd / ".cache/sweep/größe/clipart", Study("clipart", ("natural-only",), (0,))
    for _ in range(2):
        bring_up_to_date(odd, copy, study)
    assert Config(str(copy / ".dvc"))["cache"]["dir"] == str(odd / ".dvc/cache")
    assert (copy / "params.yaml").read_text() == study.edit((odd / "params.yaml").read_text())
