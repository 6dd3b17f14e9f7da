"""Score the evaluation images with one trained classifier: `python -m stages.embed_supervised <mixture> <seed>`."""

from domix.embed.classifier import embed_classifier
from domix.embed.passes import trained_epochs
from domix.project.common import ARTIFACTS, run, run_name
from domix.project.embedding import checkpoints_in, images_of, means_of, passing_settings
from domix.settings.params import Params


def main(params: Params, mixture: str, seed: str) -> None:
    name = run_name(mixture, seed)
    model = ARTIFACTS / "models" / "supervised" / name
    with passing_settings():
        embed_classifier(
            model,
            ARTIFACTS / "embeddings" / "supervised" / name,
            means_of(params),
            checkpoints=checkpoints_in(model, params),
            epochs=trained_epochs(model),
            **images_of(params),
        )


if __name__ == "__main__":
    run(main)
