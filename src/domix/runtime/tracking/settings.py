"""The block `tracking` of the parameters."""

from __future__ import annotations

import warnings

from pydantic import Field

from domix.runtime.settings import Settings

with warnings.catch_warnings():  # pydantic warns of `register`, which is a method of abstract classes, too: unused here
    warnings.filterwarnings("ignore", message='Field name "register"', category=UserWarning)

    class Tracking(Settings):
        """MLflow records of runs."""

        enabled: bool = Field(
            description="record each training in MLflow (a local sqlite file, or MLFLOW_TRACKING_URI)"
        )
        experiment: str = Field(description="MLflow experiment that holds the runs")
        system_metrics: bool = Field(description="record the load of processors, memory and GPUs, too")
        register: bool = Field(
            description="keep each trained model in MLflow and register it there, under the experiment's name"
        )
        tensorboard: bool = Field(
            description="write the same curves for TensorBoard, below .cache/tensorboard (extra `tensorboard`)"
        )
