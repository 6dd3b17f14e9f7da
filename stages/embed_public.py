"""Embed the evaluation pictures and class prompts with a model of `models`: `python -m stages.embed_public <name>`."""

from pathlib import Path

from domix.config import Params
from domix.evaluate.embed import ClipSubject, embed_clip
from domix.evaluate.public import open_public
from domix.runtime.errors import DomixError, ParameterError
from stages.common import ARTIFACTS, original_root, run
from stages.embedding import means_of, pictures_of


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


def open_named(params: Params, name: str) -> ClipSubject:
    """Open a model of the parameters; what is wrong with it is told with its name."""
    asked = params.models[name]
    try:
        return open_public(from_root(asked.weights), asked.architecture and from_root(asked.architecture))
    except DomixError as error:
        raise type(error)(f"models.{name}: {error}") from error


def from_root(place: str) -> str:
    """Return a path that the working directory lacks as one of the user's repository, if that has it."""
    there = original_root() / place
    return str(there) if there.exists() and not Path(place).expanduser().exists() else place


if __name__ == "__main__":
    run(main)
