"""Embed the evaluation pictures and class prompts with a model of `models`: `python -m stages.embed_public <name>`."""

from domix.config import Params
from domix.evaluate.embed import embed_clip
from domix.project.common import ARTIFACTS, run
from domix.project.embedding import means_of, open_named, pictures_of
from domix.runtime.errors import ParameterError


def main(params: Params, name: str) -> None:
    if name not in params.models:
        raise ParameterError(f"params.yaml: models has no {name!r}, but {', '.join(params.models) or 'nothing'}")
    embed_clip(
        open_named(params, name),
        ARTIFACTS / "embeddings" / "public" / name,
        means_of(params),
        templates=params.embed.templates,
        **pictures_of(params),
    )


if __name__ == "__main__":
    run(main)
