"""MLflow: a study's record takes in the trainings of its models, and nothing that is missing there costs anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from domix.runtime.tracking import mlflow_store
from domix.runtime.tracking.registry import Registry
from domix.runtime.tracking.tracker import NullTracker, Tracker


def record(root: Path, name: str, **named: Any) -> Tracker:
    named = {"tags": {}} | named
    return mlflow_store.open_tracker(enabled=True, uri=None, root=root, experiment="domix", run_name=name, **named)


def store(root: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{root / mlflow_store.DATABASE}")


def recorded(root: Path) -> list[Any]:
    experiment = store(root).get_experiment_by_name("domix")
    assert experiment is not None
    return store(root).search_runs([experiment.experiment_id])


def test_a_study_adopts_the_trainings_of_its_models(tmp_path: Path) -> None:
    """Their runs lie within its run, bear its name for the study and their results; a model that was kept is linked."""

    def train(name: str, weights: str, registry: Registry | None) -> str:
        tracker = record(tmp_path, name, registry=registry)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "done.json").write_text(f'{{"weights_sha256": "{weights}"}}', encoding="utf-8")
        tracker.model(folder)
        tracker.finish(succeeded=True)
        return tracker.run_id  # ty: ignore

    def save(folder: Path, target: Path, described: Any) -> dict[str, str]:
        target.mkdir()
        described.save(target / "MLmodel")
        return {"mixture": folder.name}

    kept, plain = train("kept", "aa", Registry("domix", save)), train("plain", "bb", None)
    other = train("of-another-study", "cc", None)
    study = record(tmp_path, "emoji: sketch", tags={"study": "emoji: sketch"})
    study.metrics({"held_out/cg-high": 0.5}, step=0)
    for weights, value in (("aa", 0.1), ("bb", 0.2), ("dd", 0.3)):
        study.adopt(weights, {"results/held_out": value})
    study.finish(succeeded=True)
    client = store(tmp_path)
    runs = {run.info.run_id: run for run in recorded(tmp_path)}
    for child, value in ((kept, 0.1), (plain, 0.2)):
        assert runs[child].data.metrics == {"results/held_out": value}
        assert runs[child].data.tags["mlflow.parentRunId"] == study.run_id  # ty: ignore
        assert runs[child].data.tags["study"] == "emoji: sketch"
        assert runs[child].info.status == "FINISHED"
    assert "mlflow.parentRunId" not in runs[other].data.tags and not runs[other].data.metrics
    (linked,) = client.get_run(study.run_id).inputs.model_inputs  # ty: ignore
    assert linked.model_id == runs[kept].outputs.model_outputs[0].model_id
    (measured,) = client.get_logged_model(linked.model_id).metrics
    assert (measured.key, measured.value) == ("results/held_out", 0.1)
    assert runs[study.run_id].data.metrics == {"held_out/cg-high": 0.5}  # ty: ignore


def test_a_training_that_cannot_be_adopted_costs_nothing(tmp_path: Path) -> None:
    tracker = record(tmp_path, "cg-low-s0")
    tracker.adopt("none", {"results/held_out": 0.1})
    tracker.metrics({"loss": 1.0}, step=0)
    tracker.finish(succeeded=True)
    NullTracker().adopt("none", {})
    (run,) = recorded(tmp_path)
    assert run.data.metrics == {"loss": 1.0}
