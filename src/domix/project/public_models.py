"""Models that were not trained here, as params.yaml names them."""

from pathlib import Path

from domix.embed.clip import ClipSubject
from domix.embed.public import open_public
from domix.project.common import original_root
from domix.runtime.errors import DomixError
from domix.settings.params import Params


def open_named(params: Params, name: str) -> ClipSubject:
    """Open a model of the parameters; what is wrong with it is told with its name."""
    asked = params.models[name]
    try:
        return open_public(from_root(asked.weights), asked.architecture and from_root(asked.architecture))
    except DomixError as error:
        error.prefixed(f"models.{name}")
        raise


def from_root(place: str) -> str:
    """Return a path that the working directory lacks as one of the user's repository, if that has it."""
    there = original_root() / place
    return str(there) if there.exists() and not Path(place).expanduser().exists() else place
