"""What the embedding stages share: which images, which checkpoints, by what means."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from domix.embed.passes import ComputeContext, here, kept_checkpoints
from domix.project.common import ARTIFACTS, SETS, STATE, original_root
from domix.runtime.errors import passing
from domix.settings.params import Params


def means_of(params: Params) -> ComputeContext:
    """Return the device, and where decoded images and embeddings are kept; compute with as many threads as trainings.

    Their number moves the last digits, which so are the same whatever else runs.
    """
    if params.trainer.threads:
        torch.set_num_threads(params.trainer.threads)
    return here(original_root() / STATE, params.embed.batch)


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
