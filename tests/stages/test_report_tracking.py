"""The stage report's record of the study in MLflow: what it holds, and that no store stops the report."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient

from domix.project.tracking import PATIENCE, QUIET
from domix.report.load.study import Results, load_results
from domix.runtime.files import write_text
from domix.runtime.settings import replace
from domix.runtime.tracking.mlflow_store import ARTIFACTS, DATABASE
from domix.settings.load import load
from domix.settings.params import Params
from stages import report
from tests.fake_report import CONFIDENCE, Fake

ROOT = Path(__file__).resolve().parents[2]
FILES = {"study.svg": "<svg/>", "index.html": "<!doctype html>", "results.json": "{}", "numbers.csv": "name,value\n"}


@pytest.fixture
def made(tmp_path, monkeypatch) -> tuple[Params, Results]:
    for name in ("MLFLOW_TRACKING_URI", *PATIENCE, *QUIET):
        monkeypatch.setenv(name, "")  # what the stage sets itself is then undone after the test
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    fake = Fake(tmp_path / "artifacts", copies=0)
    study = load_results(fake.write(), fake.mixtures, fake.seeds, CONFIDENCE)
    places = {"results.json": report.METRICS, "numbers.csv": report.METRICS, "index.html": report.RUN_PAGE.parent}
    for name, text in FILES.items():
        write_text(places.get(name, Path("artifacts/report")) / name, text)
    loaded = load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    quiet = replace(loaded.tracking, system_metrics=False)
    return replace(loaded, mixtures=fake.mixtures, seeds=fake.seeds, tracking=quiet), study


def test_the_record_holds_accuracies_and_figures(made, tmp_path) -> None:
    params, study = made
    report.record(params, study)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / DATABASE}")
    experiment = client.get_experiment_by_name(params.tracking.experiment)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("emoji: painting", "FINISHED")
    assert (run.data.tags["study"], run.data.tags["dvc_stage"]) == ("emoji: painting", "report")
    assert set(run.data.metrics) == {f"{p}/{m}" for p in ("held_out", "seen", "natural") for m in study.mixtures}
    rows = study.metrics[(study.metrics["mixture"] == "cg-high") & (study.metrics["metric"] == "balanced_top1")]
    held_out = rows[(rows["cells"] == "held_out") & (rows["domain"] == study.test_domain)]["estimate"].mean()
    assert run.data.metrics["held_out/cg-high"] == pytest.approx(held_out)
    folder = tmp_path / ARTIFACTS / run.info.run_id / "artifacts"
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == FILES


def test_a_server_that_is_away_costs_one_warning(made, tmp_path, monkeypatch, caplog) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with caplog.at_level(logging.WARNING):
        report.record(*made)
    assert len(caplog.messages) == 1 and "without a record" in caplog.messages[0]
    assert not (tmp_path / DATABASE).exists()


def test_without_tracking_nothing_is_written(made, tmp_path) -> None:
    params, study = made
    report.record(replace(params, tracking=replace(params.tracking, enabled=False)), study)
    assert not (tmp_path / DATABASE).exists() and not (tmp_path / ARTIFACTS).exists()
