"""Read the text of a params.yaml."""

from __future__ import annotations

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from domix.runtime.errors import ParameterError
from domix.settings.params import Params


def load(text: str) -> Params:
    """Parse the text of a params.yaml.

    Raises:
        ParameterError: text that is not YAML, or a key that is unknown, missing, mistyped or out of range.
    """
    try:
        tree = YAML(typ="safe", pure=True).load(text)  # YAML 1.2, as DVC reads and writes it: 1e-3 is a number
    except YAMLError as error:
        raise ParameterError(f"not valid YAML: {' '.join(str(error).split())}") from error
    return Params.read(tree)
