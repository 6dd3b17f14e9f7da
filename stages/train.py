"""Train CLIP on one mixture with one seed: `python -m stages.train <mixture> <seed>`.

A training cut short leaves nothing in its output folder and exits with 75; started again, it goes on where it was.
"""

import logging
import os
from dataclasses import asdict

import pandas as pd
import torch

from domix.config import Params
from domix.data.index import read_index
from domix.data.mixtures import Mixture, read_mixture
from domix.data.samples import COLUMNS, decode, gather, identity
from domix.data.shards import ShardReader
from domix.model.clip import load_config
from domix.runtime.files import digest_of
from domix.runtime.tables import read_table
from domix.train.fit import Job, fit
from stages.common import ARTIFACTS, STATE, git_state, original_root, run, run_name
from stages.tracking import tracker_of

UNTRACED = ("save_every_s", "threads")  # parameters of train that do not define its result


def job_of(params: Params, mixture: Mixture, seed: int) -> tuple[Job, pd.DataFrame]:
    """Return the training of one mixture, its pictures decoded, and its samples."""
    shards = {source: ARTIFACTS / "shards" / source for source in mixture.samples}
    indices = {source: read_index(folder, COLUMNS) for source, folder in shards.items()}
    captions = {source: read_table(ARTIFACTS / "captions" / f"{source}.parquet") for source in shards}
    samples = gather(mixture, indices, captions)
    readers = {source: ShardReader(folder) for source, folder in shards.items()}
    job = Job(
        name=params.model.name,
        config=load_config(params.model.name),
        recipe=params.train,
        seed=seed,
        pictures=decode(samples, readers, threads=os.cpu_count() or 1),
        captions=samples["text"].tolist(),
        weights=samples["weight"].tolist() if (samples["weight"] != 1).any() else None,
    )
    return job, samples


def main(params: Params, mixture_name: str, seed: str) -> None:
    mixture = read_mixture(ARTIFACTS / "mixtures" / f"{mixture_name}.parquet")
    job, samples = job_of(params, mixture, int(seed))
    recipe = {key: value for key, value in asdict(params.train).items() if key not in UNTRACED}
    data = identity(samples)
    digest = digest_of(model=job.config, recipe=recipe, seed=job.seed, data=data, torch=torch.__version__)
    described = {"name": mixture.name, "alias": mixture.alias, "digest": mixture.digest, "samples": len(samples)}
    name = run_name(mixture_name, seed)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it would greet and advertise
    fit(
        job,
        out=ARTIFACTS / "models" / "clip" / name,
        resume=original_root() / STATE / "resume" / digest,
        open_tracker=tracker_of(params, "train", name, {"mixture": mixture.digest, "data": data}),
        about={"mixture": described, "git_commit": git_state()[0]},
    )


if __name__ == "__main__":
    run(main)
