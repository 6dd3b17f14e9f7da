"""Choose the samples of every training mixture: `python -m stages.mixtures`. What they hold: `domix mixtures`."""

from domix.data.mixtures.cells_figure import write_figure
from domix.data.mixtures.composition import compose, write_summary
from domix.data.mixtures.mixture import record_captions, record_sources, write_mixture
from domix.project.common import ARTIFACTS, run
from domix.project.mixtures import build, load, parse
from domix.runtime.files import atomic_folder
from domix.settings.params import Params


def main(params: Params) -> None:
    study = load(params)
    compositions = []
    with atomic_folder(ARTIFACTS / "mixtures") as folder:
        for mixture in build(params, study, parse(params, study.split, params.mixtures)):
            path = folder / f"{mixture.name}.parquet"
            write_mixture(path, record_sources(mixture, ARTIFACTS / "shards"), study.indices)
            record_captions(path, mixture, ARTIFACTS / "captions")
            compositions.append(compose(mixture, study.cells))
        write_summary(folder, compositions, study.cells, study.split)
        write_figure(folder / "cells.png", compositions, study.cells, study.split)


if __name__ == "__main__":
    run(main)
