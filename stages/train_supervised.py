"""Train a classifier on one mixture with one seed: `python -m stages.train_supervised <mixture> <seed>`.

A training cut short leaves nothing in its output folder and exits with 75; started again, it goes on where it was.
"""

from domix.data.loading.samples import Opened, identity
from domix.data.mixtures.labels import COLUMNS, Labels, label_samples
from domix.model.classifier import load_encoder
from domix.project.common import ARTIFACTS, run, run_name
from domix.project.training import images_of, open_run, sample_weights, train
from domix.runtime.errors import passing
from domix.runtime.settings import replace
from domix.settings.params import Params
from domix.train.job import Job
from domix.train.supervised_module import SupervisedTask
from domix.train.validation.classifier import make_validator


def job_of(params: Params, opened: Opened, labels: Labels, seed: int) -> Job:
    """Return the training of one mixture."""
    recipe = replace(params.supervised, mixtures=[])  # the others say nothing of this one
    task = SupervisedTask(
        name=recipe.encoder,
        encoder=load_encoder(recipe.encoder, params.model.name),
        recipe=recipe,
        labels=labels,
        grad_checkpointing=params.trainer.grad_checkpointing,
    )
    return Job(
        task=task,
        recipe=recipe,
        trainer=params.trainer,
        seed=seed,
        images=images_of(params, opened),
        **sample_weights(recipe, opened),
    )


def main(params: Params, mixture: str, seed: str) -> None:
    opened = open_run(mixture, captions=False, columns=COLUMNS, streamed=params.trainer.streamed)
    packed = ARTIFACTS / "shards"
    with passing(index=packed, indices=packed, mixture="supervised.mixtures"):
        labels = label_samples(opened.mixture, opened.indices)
    keys = {"model_name": "model.name", "config": "model.name"}
    with passing(name="supervised.encoder", encoder="supervised.encoder", **keys):
        job = job_of(params, opened, labels, int(seed))
        train(
            params,
            job,
            opened,
            stage="train_supervised",
            out=ARTIFACTS / "models" / "supervised" / run_name(mixture, seed),
            data=identity(
                opened.samples.assign(text=labels.samples)
            ),  # labels are to classifiers what captions are to CLIP
            make_validator=lambda: make_validator(opened, job, params.validation, first=labels.first),
        )


if __name__ == "__main__":
    run(main)
