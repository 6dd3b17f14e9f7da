"""What a study's mixtures are made from, and the mixtures themselves, as params.yaml asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from domix.data.classes.test_classes import load_test_classes
from domix.data.mixtures import additions
from domix.data.mixtures.cells import COLUMNS, Cells, Ints, Split, count_cells, make_split, read_samples
from domix.data.mixtures.duplicates import rows_to_drop
from domix.data.mixtures.mixing import base_rows, build_mixture
from domix.data.mixtures.mixture import Mixture, drop_rows
from domix.data.mixtures.names import parse_mixtures
from domix.data.mixtures.recipes import Recipe
from domix.project.common import ARTIFACTS
from domix.runtime.errors import ParameterError, passing
from domix.settings.params import Params


@dataclass
class MixtureInputs:
    """What the mixtures are made from."""

    indices: dict[str, pd.DataFrame]  # the multi-domain source first
    cells: Cells
    split: Split


def load(params: Params) -> MixtureInputs:
    """Read the indices and check what the study withholds."""
    source = params.sources[0]
    indices = {name: read_source(params, name) for name in [source, *params.base]}
    with passing(index=ARTIFACTS / "shards" / source):
        cells = count_cells(indices[source])
    split = make_split(
        cells,
        test_domain=params.test_domain,
        natural_domain=params.natural_domain,
        test_classes=load_test_classes(params.test_classes, list(cells.classes)),
    )
    return MixtureInputs(indices, cells, split)


def read_source(params: Params, name: str) -> pd.DataFrame:
    columns = [column for column in COLUMNS if column != "label" or name not in params.base]
    columns += [] if params.mixing.drop == "none" else ["sha256", "phash"]
    return read_samples(ARTIFACTS / "shards" / name / "index.parquet", columns)


def parse(params: Params, split: Split, names: list[str]) -> list[Recipe]:
    return parse_mixtures(names, split, base=params.base, recipes=params.recipes)


def build(params: Params, study: MixtureInputs, recipes: list[Recipe]) -> Iterator[Mixture]:
    """Yield the mixtures one by one: all of them together would take gigabytes."""
    sketches = read_sketches(params, study) if any(recipe.sketches for recipe in recipes) else None
    base = {name: base_rows(name, study.indices[name]) for name in params.base}
    gone = {}
    if params.mixing.drop != "none":
        bits = params.mixing.near_bits if params.mixing.drop == "near" else None
        with passing(indices=ARTIFACTS / "shards"):
            gone = rows_to_drop(study.indices, params.test_domain, study.split.test_classes, near_bits=bits)
    source = params.sources[0]
    for recipe in recipes:
        mixture = build_mixture(recipe, study.cells, study.split, source=source, base=base, sketches=sketches)
        yield drop_rows(mixture, gone) if gone else mixture


def read_sketches(params: Params, study: MixtureInputs) -> Ints:
    """Add ImageNet-Sketch's index to the study's, and return its rows that mixtures may hold."""
    if additions.SOURCE not in params.sources:
        raise ParameterError(f"mixtures with sketches need {additions.SOURCE} among the sources: add it to `sources`")
    index = study.indices[additions.SOURCE] = read_source(params, additions.SOURCE)
    by_name = params.mixing.sketch_filter == "reference"
    with passing(index=ARTIFACTS / "shards" / additions.SOURCE):
        return additions.unlike_sketches(index, study.cells.classes, by_name=by_name)
