"""Train CLIP on one mixture with one seed: `python -m stages.train <mixture> <seed>`.

A training cut short leaves nothing in its output folder and exits with 75; started again, it goes on where it was.
"""

from domix.data.loading.samples import Opened, identity
from domix.encoders import mlflow_model
from domix.model.clip import load_config
from domix.project.common import ARTIFACTS, run, run_name
from domix.project.training import images_of, open_run, sample_weights, train
from domix.runtime.errors import passing
from domix.settings.params import Params
from domix.train.clip_module import ClipTask
from domix.train.job import Job
from domix.train.validation import subsets
from domix.train.validation.clip import make_validator


def job_of(params: Params, opened: Opened, seed: int) -> Job:
    """Return the training of one mixture."""
    task = ClipTask(
        name=params.model.name,
        config=load_config(params.model.name),
        recipe=params.train,
        captions=opened.samples["text"].tolist(),
        grad_checkpointing=params.trainer.grad_checkpointing,
    )
    images = images_of(params, opened)
    return Job(
        task=task,
        recipe=params.train,
        trainer=params.trainer,
        seed=seed,
        images=images,
        **sample_weights(params.train, opened),
    )


def main(params: Params, mixture: str, seed: str) -> None:
    opened = open_run(mixture, columns=subsets.COLUMNS, streamed=params.trainer.streamed)
    with passing(name="model.name", config="model.name"):
        job = job_of(params, opened, int(seed))
        train(
            params,
            job,
            opened,
            stage="train",
            out=ARTIFACTS / "models" / "clip" / run_name(mixture, seed),
            data=identity(opened.samples),
            make_validator=lambda: make_validator(opened, ARTIFACTS / "captions", job, params.validation),
            save=mlflow_model.save,
        )


if __name__ == "__main__":
    run(main)
