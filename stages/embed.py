"""Embed the evaluation images and class prompts with one trained CLIP: `python -m stages.embed <mixture> <seed>`."""

from domix.embed.clip import embed_clip, open_subject
from domix.embed.passes import trained_epochs
from domix.project.common import ARTIFACTS, run, run_name
from domix.project.embedding import checkpoints_in, images_of, means_of, passing_settings
from domix.settings.params import Params


def main(params: Params, mixture: str, seed: str) -> None:
    name = run_name(mixture, seed)
    model = ARTIFACTS / "models" / "clip" / name
    with passing_settings():
        embed_clip(
            open_subject(model),
            ARTIFACTS / "embeddings" / "clip" / name,
            means_of(params),
            templates=params.embed.templates,
            checkpoints=checkpoints_in(model, params),
            epochs=trained_epochs(model),
            **images_of(params),
        )


if __name__ == "__main__":
    run(main)
