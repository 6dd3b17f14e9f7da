"""What the training stages share: the mixture's samples, where states are kept, what is told of them."""

import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch

from domix.data.classes.names import class_text
from domix.data.loading.image_sources import open_images
from domix.data.loading.images import ImageSet
from domix.data.loading.samples import Opened, open_mixture, shard_numbers
from domix.project.allocation import stand_alone
from domix.project.common import ARTIFACTS, RATES, STATE, original_root
from domix.project.tracking import tracker_of
from domix.runtime.errors import passing
from domix.runtime.files import digest_of
from domix.runtime.tracking.registry import Save
from domix.settings.params import Params
from domix.train import first_batch
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.session import Validator
from domix.train.settings import DECIDING, Recipe


def open_run(
    mixture: str, *, captions: bool = True, columns: Sequence[str] = (), streamed: Collection[str] = ()
) -> Opened:
    """Return a mixture's samples, with `columns` of their indices besides those that every training reads.

    The shards of `streamed` sources need not be here.
    """
    path = ARTIFACTS / "mixtures" / f"{mixture}.parquet"
    texts = ARTIFACTS / "captions" if captions else None
    shards = ARTIFACTS / "shards"
    return open_mixture(path, shards=shards, captions=texts, columns=columns, streamed=streamed)


def images_of(params: Params, opened: Opened) -> ImageSet:
    """Return the images of a mixture."""
    kept = original_root() / STATE
    threads = os.cpu_count() or 1
    with passing(data=shards_of(opened), url="trainer.shards"):
        return open_images(opened, params.trainer, cache=kept / "images", spool=kept / "spool", threads=threads)


def shards_of(opened: Opened) -> Path:
    """Return the folder of a mixture's packed images: its source's, or all sources' where it has several."""
    return next(iter(opened.folders.values())) if len(opened.folders) == 1 else ARTIFACTS / "shards"


def sample_weights(recipe: Recipe, opened: Opened) -> dict[str, Any]:
    """Return what of the samples decides their order: Job's `weights` and `shards`."""
    weights = opened.samples["weight"]
    return {
        "weights": weights.tolist() if (weights != 1).any() else None,
        "shards": shard_numbers(opened.samples) if recipe.window is not None else None,
    }


def train(
    params: Params,
    job: Job,
    opened: Opened,
    *,
    stage: str,
    out: Path,
    data: str,
    make_validator: Callable[[], Validator | None],
    save: Save | None = None,
) -> None:
    """Train, follow it, and publish the model in the folder `out`, whose name is the run's.

    Args:
        params: of the study.
        job: what is trained.
        opened: the mixture.
        stage: name of the stage.
        out: the model's folder.
        data: digest of all samples.
        make_validator: returns what measures the model on the way.
        save: writes the model as MLflow keeps it; None: it is not kept there.
    """
    resume = resume_folder(job, data)
    inputs = {"mixture": opened.mixture.digest, "data": data}
    quiet()
    stand_alone()
    with passing(data=shards_of(opened), url="trainer.shards"):
        fit(
            job,
            out=out,
            resume=resume,
            open_tracker=tracker_of(params, stage, out.name, inputs, resume=resume, save=save),
            about={"mixture": describe(opened)},
            rates=RATES / out.parent.name / f"{out.name}.csv",
            make_validator=make_validator,
            draw=lambda: first_batch.draw(job, words_of(opened), name=out.name),
        )


def resume_folder(job: Job, data: str) -> Path:
    """Return where the states of a training are kept: a folder of its own for all that its result depends on."""
    trainer = {key: getattr(job.trainer, key) for key in DECIDING}
    task = job.task.describe()
    digest = digest_of(
        task=task, recipe=job.recipe.model_dump(), trainer=trainer, seed=job.seed, data=data, torch=torch.__version__
    )
    return original_root() / STATE / "resume" / digest


def describe(opened: Opened) -> dict[str, Any]:
    """Return what config.json says about a mixture."""
    mixture = opened.mixture
    return {"name": mixture.name, "alias": mixture.alias, "digest": mixture.digest, "samples": len(opened.samples)}


def words_of(opened: Opened) -> first_batch.Words:
    """Return what says of samples, by their rows, the caption (or the class), and where each was taken from."""

    def words(rows: list[int]) -> list[tuple[str, str]]:
        said = []
        for sample in opened.samples.iloc[rows].to_dict("records"):
            name = class_text(sample["class"]) if isinstance(sample["class"], str) else ""
            places = dict.fromkeys([str(sample["source"]), str(sample["domain"]), name])  # a corpus is its own domain
            said.append((str(sample.get("text", name)), " / ".join(place for place in places if place)))
        return said

    return words


def quiet() -> None:
    """Keep Lightning from greeting and advertising."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
