"""The list of a zoo's models: a YAML file of the user's, or the one that ships with Domix.

`public` are 17 public CLIP models, the grid of which *Interpreting CLIP* (Crabbe et al., TMLR 2024) studies 16: ResNets
and vision transformers by pre-training set, each with the activation that its weights were trained with.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import Field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import read_text
from domix.runtime.settings import Settings

PUBLIC = "public"
SHIPPED = Path(__file__).parent / "resources" / "public.json"  # YAML, too


class Entry(Settings):
    """A model of the zoo."""

    name: str = Field(min_length=1, description="What tables and figures call it.")
    model: str = Field(min_length=1, description="As `domix signature` takes it: a name, tag, file or folder.")
    architecture: str | None = Field(None, description="Of a tag or a file.")
    group: str = Field(min_length=1, description="What is compared: zero-shot, fine-tuned, supervised, captions ...")
    features: Literal["joint", "tower"] | None = Field(None, description="`domix ood` alone: what is read of it.")
    probe: str | None = Field(None, description="`domix ood` alone: a head to train: labels, pseudo, few:<k>, in21k.")
    alpha: float | None = Field(
        None, ge=0, le=1, description="Of a folder of `domix finetune`: the weights in between; 0: before, 1: after."
    )
    family: str | None = Field(None, description="Whom it resembles: pre-training set or architecture; null: nobody.")


class Listing(Settings):
    """The models of a zoo."""

    models: list[Entry] = Field(min_length=1, description="In the order of the tables.")
    baselines: str | None = Field(None, description="The group that says what accuracy makes one expect under a shift.")

    @property
    def groups(self) -> list[str]:
        """The groups, in order."""
        return list(dict.fromkeys(entry.group for entry in self.models))


def read_listing(name: str | Path) -> Listing:
    """Read the list in a file, or the shipped one (`public`).

    Raises:
        DataError: there is no such file, it is no list of models, or two of them have one name.
        ParameterError: the baselines are no group of the list.
    """
    path = SHIPPED if str(name) == PUBLIC else Path(name)
    text = read_text(path, mend=f"name a YAML file with the models, or {PUBLIC}")
    try:
        listing = Listing.read(YAML(typ="safe", pure=True).load(text))
    except YAMLError as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except ParameterError as error:
        raise DataError(f"{path}: {error}") from error
    name, times = Counter(entry.name for entry in listing.models).most_common(1)[0]
    if times > 1:
        raise DataError(f"{path} names the model {name!r} {times} times: give every model a name of its own")
    if listing.baselines is not None and listing.baselines not in listing.groups:
        raise ParameterError(
            f"{path}: baselines is {listing.baselines!r}, which is no group of its models ({', '.join(listing.groups)})"
        )
    return listing
