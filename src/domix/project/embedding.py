"""What the embedding stages share: which images, which checkpoints, by what means."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from domix.embed.passes import ComputeContext, kept_checkpoints
from domix.project.common import ARTIFACTS, SETS, STATE, original_root
from domix.runtime.errors import passing
from domix.settings.params import Params


def means_of(params: Params) -> ComputeContext:
    """Return the device, and where decoded images and embeddings are kept."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ComputeContext(original_root() / STATE, params.embed.batch, device, os.cpu_count() or 1)


def images_of(params: Params) -> dict[str, Any]:
    """Return the packed sources: `study`, the multi-domain one, and `sets`, those of embed.sets."""
    study = ARTIFACTS / "shards" / params.sources[0]
    return {"study": study, "sets": [SETS / name for name in params.embed.sets]}


def checkpoints_in(model: Path, params: Params) -> dict[int, Path]:
    """Return the checkpoints of a model folder by their epochs, if they are asked for."""
    return kept_checkpoints(model) if params.embed.checkpoints else {}


def passing_settings() -> AbstractContextManager[None]:
    """Name the keys of what the embedding stages pass on, where one of them is wrong."""
    return passing(templates="embed.templates", sets="embed.sets")
