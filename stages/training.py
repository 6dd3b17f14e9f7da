"""What the training stages share: the mixture's samples, where states are kept, what is told of them."""

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from domix.config import Params
from domix.data.pictures import PictureSet
from domix.data.samples import Opened, decode, open_mixture, shard_numbers
from domix.runtime.files import digest_of
from domix.train.job import Job
from domix.training_params import DECIDING, Recipe
from stages.common import ARTIFACTS, STATE, original_root


def open_run(mixture: str) -> Opened:
    """Return a mixture's samples."""
    path = ARTIFACTS / "mixtures" / f"{mixture}.parquet"
    return open_mixture(path, shards=ARTIFACTS / "shards", captions=ARTIFACTS / "captions")


def pictures_of(params: Params, opened: Opened) -> PictureSet:
    """Return the pictures of a mixture."""
    return decode(opened.samples, opened.readers, threads=os.cpu_count() or 1)


def sample_weights(recipe: Recipe, opened: Opened) -> dict[str, Any]:
    """Return what of the samples decides their order: Job's `weights` and `shards`."""
    weights = opened.samples["weight"]
    return {
        "weights": weights.tolist() if (weights != 1).any() else None,
        "shards": shard_numbers(opened.samples) if recipe.window is not None else None,
    }


def resume_folder(job: Job, data: str) -> Path:
    """Return where the states of a training are kept: a folder of its own for all that its result depends on."""
    trainer = {key: getattr(job.trainer, key) for key in DECIDING}
    task = job.task.describe()
    digest = digest_of(
        task=task, recipe=asdict(job.recipe), trainer=trainer, seed=job.seed, data=data, torch=torch.__version__
    )
    return original_root() / STATE / "resume" / digest


def describe(opened: Opened) -> dict[str, Any]:
    """Return what config.json says about a mixture."""
    mixture = opened.mixture
    return {"name": mixture.name, "alias": mixture.alias, "digest": mixture.digest, "samples": len(opened.samples)}


def quiet() -> None:
    """Keep Lightning from greeting and advertising."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
