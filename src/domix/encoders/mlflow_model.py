"""A model folder as an MLflow model: weights, configuration and the code that reads them, with a signature.

The code is `mlflow_script.py` and the library's own modules, copied; what else they need is named by version. So the
model loads wherever those packages are installed, without Domix, without a network and without a pickle.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import domix
from domix.model.checkpoint import CONFIG, WEIGHTS
from domix.runtime.files import read_json

SCRIPT = Path(__file__).with_name("mlflow_script.py")
PACKAGES = ("torch", "open_clip_torch", "safetensors", "numpy", "pillow", "psutil")


def save(folder: Path, target: Path, described: Any) -> dict[str, str]:
    """Write the model `folder` as an MLflow model to the folder `target`, and return its tags.

    Args:
        described: an `mlflow.models.Model`, which is filled in.

    Raises:
        DataError: `folder` is no model folder.
    """
    from mlflow import pyfunc

    config, done = read_json(folder / CONFIG), read_json(folder / "done.json")
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # MLflow asks for what the signature says better
        kept = Path(temporary) / "model"
        kept.mkdir()
        for name in (WEIGHTS, CONFIG):  # not the checkpoints, which may be many
            shutil.copyfile(folder / name, kept / name)
        pyfunc.save_model(
            target,
            mlflow_model=described,
            python_model=SCRIPT,
            artifacts={"model": str(kept)},
            code_paths=[str(Path(domix.__path__[0]))],
            signature=_signature(config["model"]["embed_dim"]),
            pip_requirements=requirements(),
        )
    return {
        "mixture": config["mixture"]["name"],
        "mixture_digest": config["mixture"]["digest"],
        "seed": str(config["seed"]),
        "run": folder.name,
        "weights_sha256": done["weights_sha256"],
    }


def requirements() -> list[str]:
    """Name the packages that the model needs, by version."""
    versions = {name: importlib.metadata.version(name) for name in ("mlflow", *PACKAGES)}
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]


def _signature(width: int) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    images = TensorSpec(np.dtype("uint8"), (-1, -1, -1, 3))
    embeddings = TensorSpec(np.dtype("float32"), (-1, width))
    captions = ParamSpec("captions", "string", [], (-1,))
    return ModelSignature(Schema([images]), Schema([embeddings]), ParamSchema([captions]))
