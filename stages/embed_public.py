"""Embed the evaluation images and class prompts with a model of `models`: `python -m stages.embed_public <name>`."""

from domix.embed.clip import embed_clip
from domix.project.common import ARTIFACTS, run
from domix.project.embedding import images_of, means_of, passing_settings
from domix.project.public_models import open_named
from domix.runtime.errors import ParameterError
from domix.settings.params import Params


def main(params: Params, name: str) -> None:
    if name not in params.models:
        raise ParameterError(f"params.yaml: models has no {name!r}, but {', '.join(params.models) or 'nothing'}")
    with passing_settings():
        embed_clip(
            open_named(params, name),
            ARTIFACTS / "embeddings" / "public" / name,
            means_of(params),
            templates=params.embed.templates,
            **images_of(params),
        )


if __name__ == "__main__":
    run(main)
