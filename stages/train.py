"""Train CLIP on one mixture with one seed: `python -m stages.train <mixture> <seed>`.

A training cut short leaves nothing in its output folder and exits with 75; started again, it goes on where it was.
"""

from domix.config import Params
from domix.data.samples import Opened, identity
from domix.model import mlflow_model
from domix.model.clip import load_config
from domix.train import first_batch, subsets
from domix.train.clip_module import ClipTask
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.validation import make_validator
from stages.common import ARTIFACTS, git_state, run, run_name
from stages.tracking import tracker_of
from stages.training import describe, open_run, pictures_of, quiet, resume_folder, sample_weights, words_of


def job_of(params: Params, opened: Opened, seed: int) -> Job:
    """Return the training of one mixture."""
    task = ClipTask(
        name=params.model.name,
        config=load_config(params.model.name),
        recipe=params.train,
        captions=opened.samples["text"].tolist(),
        grad_checkpointing=params.trainer.grad_checkpointing,
    )
    pictures = pictures_of(params, opened)
    return Job(
        task=task,
        recipe=params.train,
        trainer=params.trainer,
        seed=seed,
        pictures=pictures,
        **sample_weights(params.train, opened),
    )


def main(params: Params, mixture: str, seed: str) -> None:
    opened = open_run(mixture, columns=subsets.COLUMNS, streamed=params.trainer.streamed)
    job = job_of(params, opened, int(seed))
    data = identity(opened.samples)
    name, resume = run_name(mixture, seed), resume_folder(job, data)
    inputs = {"mixture": opened.mixture.digest, "data": data}
    quiet()
    fit(
        job,
        out=ARTIFACTS / "models" / "clip" / name,
        resume=resume,
        open_tracker=tracker_of(params, "train", name, inputs, resume=resume, save=mlflow_model.save),
        about={"mixture": describe(opened), "git_commit": git_state()[0]},
        make_validator=lambda: make_validator(opened, ARTIFACTS / "captions", job, params.validation),
        draw=lambda: first_batch.draw(job, words_of(opened), name=name),
    )


if __name__ == "__main__":
    run(main)
