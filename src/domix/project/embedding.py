"""What the embedding stages share: which images, which checkpoints, by what means."""

import logging
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from domix.data.mixtures.overlap import COLUMNS, shared_images
from domix.data.store.index import read_index
from domix.embed.passes import ComputeContext, here, kept_checkpoints
from domix.project.common import ARTIFACTS, SETS, STATE, original_root
from domix.runtime.errors import passing
from domix.settings.params import Params

logger = logging.getLogger(__name__)


def means_of(params: Params) -> ComputeContext:
    """Return the device, and where decoded images and embeddings are kept; compute with as many threads as trainings.

    Their number moves the last digits, which so are the same whatever else runs.
    """
    if params.trainer.threads:
        torch.set_num_threads(params.trainer.threads)
    return here(original_root() / STATE, params.embed.batch)


def folder_of(source: str) -> Path:
    """Return where a source is packed: as an evaluation set, else for training."""
    return SETS / source if (SETS / source).exists() else ARTIFACTS / "shards" / source


def images_of(params: Params) -> dict[str, Any]:
    """Return the packed sources: `study`, the multi-domain one; `ood`, the sets of embed.ood; `sets`, all other sets.

    What an out-of-distribution set has in common with the study is told by warnings.
    """
    study, ood = ARTIFACTS / "shards" / params.sources[0], params.embed.ood
    sets = [SETS / name for name in params.embed.sets if name not in ood]
    for name in ood:
        warn_of_copies(SETS / name, study, params.mixing.near_bits)
    return {"study": study, "sets": sets, "ood": {SETS / name: group for name, group in ood.items()}}


def warn_of_copies(foreign: Path, study: Path, near_bits: int) -> None:
    """Tell by warnings which images of a packed set are images of another source, or look nearly the same."""
    known = {study.name: read_index(study, COLUMNS)}
    pairs = shared_images(read_index(foreign, COLUMNS), known, near_bits)
    for kind, what in (("exact", "are"), ("near", f"look (within {near_bits} bits) like")):
        images = pairs.loc[pairs["kind"] == kind].drop_duplicates("image")
        if len(images):
            first, other = images.iloc[0][["image", "other"]]
            logger.warning(
                "%d images of %s %s images of %s, for one %s: %s",
                len(images),
                foreign.name,
                what,
                study.name,
                first,
                other,
            )


def checkpoints_in(model: Path, params: Params) -> dict[int, Path]:
    """Return the checkpoints of a model folder by their epochs, if they are asked for."""
    return kept_checkpoints(model) if params.embed.checkpoints else {}


def passing_settings() -> AbstractContextManager[None]:
    """Name the keys of what the embedding stages pass on, where one of them is wrong."""
    return passing(templates="embed.templates", sets="embed.sets", ood="embed.ood")
