"""MLflow for the stages: which store, and what a run's record says about where it came from."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from domix.project.common import STATE, git_state, original_root
from domix.runtime.errors import passing
from domix.runtime.tracking.heartbeat import Heartbeat
from domix.runtime.tracking.mlflow_store import open_tracker
from domix.runtime.tracking.registry import Registry, Save
from domix.runtime.tracking.tensorboard import TensorboardTracker
from domix.runtime.tracking.tracker import Tracker, Trackers
from domix.settings.params import Params

# A server that stops answering must not hold up the end of a stage; MLflow's own settings, where set, win.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
KINDS = {"train": "clip", "train_supervised": "supervised"}  # of the models that stages train
REMINDER = "mlflow_run"
PROGRESS = "DOMIX_PROGRESS"  # the file in which a training is to tell how far it has come


def tracker_of(
    params: Params,
    stage: str,
    run_name: str,
    inputs: Mapping[str, str],
    *,
    resume: Path | None = None,
    save: Save | None = None,
) -> Callable[[], Tracker]:
    """Return a function that starts a run's record.

    Args:
        inputs: digests of what the stage read.
        resume: folder of a training's saved states, for one that is cut short to go on with the same record.
        save: writes a published model as MLflow keeps it; None: models are not kept there.
    """
    tracking = params.tracking

    def start() -> Tracker:
        for key, value in (PATIENCE | QUIET).items():
            os.environ.setdefault(key, value)
        if tracking.enabled:
            import mlflow  # noqa: F401  (first: it sets its loggers' level when it is imported)

            logging.getLogger("mlflow").setLevel(logging.ERROR)
        told = os.environ.get(PROGRESS)
        listeners: list[Tracker] = [Heartbeat(Path(told))] if told else []
        if tracking.tensorboard:
            folder = original_root() / STATE / "tensorboard" / stage / _own(run_name, resume)
            with passing(tensorboard="tracking.tensorboard"):
                listeners.append(TensorboardTracker(folder))
        record = open_tracker(
            enabled=tracking.enabled,
            uri=os.environ.get("MLFLOW_TRACKING_URI"),
            root=original_root(),
            experiment=tracking.experiment,
            run_name=run_name,
            tags=_tags(params, stage, run_name, inputs),
            reminder=resume and resume / REMINDER,
            watch_machine=tracking.system_metrics,
            registry=Registry(tracking.experiment, save) if save is not None and tracking.register else None,
        )
        return Trackers(*listeners, record) if listeners else record

    return start


def _own(run_name: str, resume: Path | None) -> str:
    """Return a name that no training of other data or another recipe has."""
    return f"{run_name}-{resume.name[:8]}" if resume else run_name


def study_name(params: Params) -> str:
    """Return what the records of one study are grouped by: its data and its test domain."""
    return f"{params.sources[0]}: {params.test_domain}"


def _tags(params: Params, stage: str, run_name: str, inputs: Mapping[str, str]) -> dict[str, str]:
    commit, dirty = git_state()
    mixture, _, seed = run_name.rpartition("-s")
    model = {"kind": KINDS[stage], "mixture": mixture, "seed": seed} if stage in KINDS else {}
    tags = model | {
        "study": study_name(params),
        "git_commit": commit,
        "git_dirty": str(dirty).lower() if commit else None,
        "dvc_stage": f"{stage}@{run_name}" if stage in KINDS else stage,
        "dvc_experiment": os.environ.get("DVC_EXP_NAME"),
    }
    return {key: value for key, value in tags.items() if value} | {f"input.{k}": v for k, v in inputs.items()}
