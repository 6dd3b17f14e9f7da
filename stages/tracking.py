"""MLflow for the stages: which store, and what a run's record says about where it came from."""

import logging
import os
from collections.abc import Callable, Mapping

from domix.config import Params
from domix.runtime.tracking import Tracker, open_tracker
from stages.common import git_state, original_root

# A server that stops answering must not hold up the end of a stage; MLflow's own settings, where set, win.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}


def tracker_of(params: Params, stage: str, run_name: str, inputs: Mapping[str, str]) -> Callable[[], Tracker]:
    """Return a function that starts a run's record; `inputs` are the digests of what the stage read."""

    def start() -> Tracker:
        for key, value in PATIENCE.items():
            os.environ.setdefault(key, value)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        return open_tracker(
            enabled=params.tracking.enabled,
            uri=os.environ.get("MLFLOW_TRACKING_URI"),
            root=original_root(),
            experiment=params.tracking.experiment,
            run_name=run_name,
            tags=_tags(stage, run_name, inputs),
        )

    return start


def _tags(stage: str, run_name: str, inputs: Mapping[str, str]) -> dict[str, str]:
    commit, dirty = git_state()
    tags = {
        "git_commit": commit,
        "git_dirty": str(dirty).lower() if commit else None,
        "dvc_stage": f"{stage}@{run_name}",
        "dvc_experiment": os.environ.get("DVC_EXP_NAME"),
    }
    return {key: value for key, value in tags.items() if value} | {f"input.{k}": v for k, v in inputs.items()}
