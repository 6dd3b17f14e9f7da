"""Choose the samples of every training mixture: `python -m stages.mixtures`."""

from domix.config import Params
from domix.data.cells import count_cells, make_split
from domix.data.classes import load_test_classes
from domix.data.mixtures import build_mixture, write_mixture, write_summary
from domix.data.recipes import parse_mixtures
from domix.runtime.files import atomic_folder
from domix.runtime.tables import read_table
from stages.common import ARTIFACTS, run

COLUMNS = ["row", "domain", "class", "label", "split"]


def main(params: Params) -> None:
    indices = {name: read_table(ARTIFACTS / "shards" / name / "index.parquet", COLUMNS) for name in params.sources}
    source, *base_sources = params.sources
    cells = count_cells(indices[source])
    split = make_split(
        cells,
        test_domain=params.test_domain,
        natural_domain=params.natural_domain,
        test_classes=load_test_classes(params.test_classes, list(cells.classes)),
    )
    base = {name: indices[name].loc[indices[name]["split"] == "train", "row"].to_numpy() for name in base_sources}
    recipes = parse_mixtures(params.mixtures, split)
    mixtures = [build_mixture(recipe, cells, split, source=source, base=base) for recipe in recipes]
    with atomic_folder(ARTIFACTS / "mixtures") as folder:
        for mixture in mixtures:
            write_mixture(folder / f"{mixture.name}.parquet", mixture, indices)
        write_summary(folder, mixtures, cells, split)


if __name__ == "__main__":
    run(main)
