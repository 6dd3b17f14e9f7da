"""Published models in MLflow: kept with the run that made them, and registered as versions under one name.

Written through a client, never through MLflow's global settings; so several stores can be in use in one process.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSIONS = "mlflow.modelVersions"
Save = Callable[[Path, Path, Any], dict[str, str]]


@dataclass(frozen=True)
class Registry:
    """Where and how models are kept."""

    name: str  # of the registered model whose versions they become
    save: Save  # (model folder, target, mlflow Model to describe it in) -> tags; writes the model as MLflow keeps it


def register(client: Any, run_id: str, folder: Path, registry: Registry) -> None:
    """Keep the model `folder` in the store of `client`, as a model of the run and a version in the registry."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(run_id)
    kept = client.create_logged_model(
        run.info.experiment_id, name=folder.name, source_run_id=run_id, params=run.data.params
    )
    try:
        with tempfile.TemporaryDirectory() as temporary:
            target = Path(temporary) / "model"
            described = Model(
                artifact_path=kept.artifact_location, run_id=run_id, model_id=kept.model_id, model_uuid=kept.model_id
            )
            tags = registry.save(folder, target, described)
            client.log_model_artifacts(kept.model_id, str(target))
        client.set_logged_model_tags(kept.model_id, tags)
        client.finalize_logged_model(kept.model_id, "READY")
    except BaseException:
        client.finalize_logged_model(kept.model_id, "FAILED")
        raise
    client.log_outputs(run_id, [LoggedModelOutput(kept.model_id, step=0)])
    _make_name(client, registry.name)
    made = client.create_model_version(
        registry.name, kept.artifact_location, run_id=run_id, tags=tags, model_id=kept.model_id
    )
    versions = json.dumps([{"name": made.name, "version": made.version}])
    client.set_logged_model_tags(kept.model_id, {VERSIONS: versions})  # as mlflow.register_model notes it


def _make_name(client: Any, name: str) -> None:
    """Make the name under which versions are registered, unless it is there; another process may be sooner."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
