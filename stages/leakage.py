"""Look for withheld test pictures, and what looks like them, in every mixture: `python -m stages.leakage`."""

import os

import torch

from domix.analysis.leakage import Search, audit, choose_encoder
from domix.analysis.study import read_withheld
from domix.data.mixtures import read_mixture
from domix.project.common import ARTIFACTS, run, run_names
from domix.runtime.files import atomic_folder, write_json
from domix.runtime.tables import read_table, write_table
from domix.settings.params import Params


def main(params: Params) -> None:
    mixtures = ARTIFACTS / "mixtures"
    cells = read_table(mixtures / "cells.parquet", ["mixture", "samples"])
    encoder = choose_encoder(run_names(params), cells, params.leakage.encoder)
    found = audit(
        {name: read_mixture(mixtures / f"{name}.parquet").rows for name in params.mixtures},
        {source: ARTIFACTS / "shards" / source for source in params.sources},
        ARTIFACTS / "models" / "clip" / encoder,
        Search(
            withheld=read_withheld(mixtures / "summary.json"),
            natural_domain=params.natural_domain,
            similarity=params.leakage.similarity,
            near_bits=params.mixing.near_bits,
            confidence=params.evaluate.confidence,
            batch=params.embed.batch,
            device="cuda" if torch.cuda.is_available() else "cpu",
            threads=os.cpu_count() or 1,
        ),
    )
    with atomic_folder(ARTIFACTS / "analysis" / "leakage") as folder:
        write_table(folder / "duplicates.parquet", found.duplicates)
        write_table(folder / "summary.parquet", found.summary)
        write_table(folder / "domains.parquet", found.domains)
        write_json(folder / "meta.json", found.meta)


if __name__ == "__main__":
    run(main)
