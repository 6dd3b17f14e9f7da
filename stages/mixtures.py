"""Choose the samples of every training mixture: `python -m stages.mixtures`.

python -m stages.mixtures --list              tell what the mixtures of params.yaml hold, and write nothing
python -m stages.mixtures --list reference    the same of the reference study's mixtures for this test domain
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from domix.config import Params
from domix.data import additions
from domix.data.cells import COLUMNS, Cells, Ints, Split, count_cells, make_split, read_samples
from domix.data.cells_figure import write_figure
from domix.data.classes import load_test_classes
from domix.data.composition import compose, format_table, write_summary
from domix.data.duplicates import rows_to_drop
from domix.data.mixing import base_rows, build_mixture
from domix.data.mixture_names import parse_mixtures, reference_names
from domix.data.mixtures import Mixture, drop_rows, write_mixture
from domix.data.recipes import Recipe
from domix.runtime.errors import ParameterError
from domix.runtime.files import atomic_folder
from stages.common import ARTIFACTS, run


@dataclass
class MixtureInputs:
    """What the mixtures are made from."""

    indices: dict[str, pd.DataFrame]  # the multi-domain source first
    cells: Cells
    split: Split


def main(params: Params, *arguments: str) -> None:
    study = load(params)
    if arguments:
        show(params, study, arguments)
    compositions = []
    with atomic_folder(ARTIFACTS / "mixtures") as folder:
        for mixture in build(params, study, parse(params, study.split, params.mixtures)):
            write_mixture(folder / f"{mixture.name}.parquet", mixture, study.indices)
            compositions.append(compose(mixture, study.cells))
        write_summary(folder, compositions, study.cells, study.split)
        write_figure(folder / "cells.png", compositions, study.cells, study.split)


def load(params: Params) -> MixtureInputs:
    """Read the indices and check what the study withholds."""
    source = params.sources[0]
    indices = {name: read_source(params, name) for name in [source, *params.base]}
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
    return additions.unlike_sketches(index, study.cells.classes, by_name=by_name)


def show(params: Params, study: MixtureInputs, arguments: tuple[str, ...]) -> None:
    """Print the table and exit: nothing was made, so that no time is to be recorded."""
    if arguments not in [("--list",), ("--list", "reference")]:
        raise ParameterError(f"unknown arguments {' '.join(arguments)!r}: use --list or --list reference")
    names = params.mixtures
    if arguments[1:]:
        with_sketches = additions.SOURCE in params.sources
        names = reference_names(study.split, base=params.base, sketches=with_sketches)
    mixtures = build(params, study, parse(params, study.split, names))
    print(format_table([compose(mixture, study.cells) for mixture in mixtures], study.cells))
    sys.exit(0)


if __name__ == "__main__":
    run(main)
