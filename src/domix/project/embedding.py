"""What the embedding stages share: which pictures, which checkpoints, by what means."""

import os
from pathlib import Path
from typing import Any

import torch

from domix.config import Params
from domix.evaluate.embed import ClipSubject
from domix.evaluate.passes import Means, kept_checkpoints
from domix.evaluate.public import open_public
from domix.project.common import ARTIFACTS, SETS, STATE, original_root
from domix.runtime.errors import DomixError


def means_of(params: Params) -> Means:
    """Return the device, and where decoded pictures and embeddings are kept."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Means(original_root() / STATE, params.embed.batch, device, os.cpu_count() or 1)


def pictures_of(params: Params) -> dict[str, Any]:
    """Return the packed sources: `study`, the multi-domain one, and `sets`, those of embed.sets."""
    study = ARTIFACTS / "shards" / params.sources[0]
    return {"study": study, "sets": [SETS / name for name in params.embed.sets]}


def checkpoints_in(model: Path, params: Params) -> dict[int, Path]:
    """Return the checkpoints of a model folder by their epochs, if they are asked for."""
    return kept_checkpoints(model) if params.embed.checkpoints else {}


def open_named(params: Params, name: str) -> ClipSubject:
    """Open a model of the parameters; what is wrong with it is told with its name."""
    asked = params.models[name]
    try:
        return open_public(from_root(asked.weights), asked.architecture and from_root(asked.architecture))
    except DomixError as error:
        raise type(error)(f"models.{name}: {error}") from error


def from_root(place: str) -> str:
    """Return a path that the working directory lacks as one of the user's repository, if that has it."""
    there = original_root() / place
    return str(there) if there.exists() and not Path(place).expanduser().exists() else place
