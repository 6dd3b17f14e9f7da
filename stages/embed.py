"""Embed the evaluation pictures and class prompts with one trained CLIP: `python -m stages.embed <mixture> <seed>`."""

from domix.evaluate.embed import embed_clip, open_subject
from domix.evaluate.passes import trained_epochs
from domix.project.common import ARTIFACTS, run, run_name
from domix.project.embedding import checkpoints_in, means_of, pictures_of
from domix.settings.params import Params


def main(params: Params, mixture: str, seed: str) -> None:
    name = run_name(mixture, seed)
    model = ARTIFACTS / "models" / "clip" / name
    embed_clip(
        open_subject(model),
        ARTIFACTS / "embeddings" / "clip" / name,
        means_of(params),
        templates=params.embed.templates,
        checkpoints=checkpoints_in(model, params),
        epochs=trained_epochs(model),
        **pictures_of(params),
    )


if __name__ == "__main__":
    run(main)
