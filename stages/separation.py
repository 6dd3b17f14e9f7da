"""Measure and map how far apart every run keeps the domains: `python -m stages.separation`."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from domix.analysis.separation import analyse_run
from domix.analysis.study import join_runs, read_withheld
from domix.project.common import ARTIFACTS, run, run_names
from domix.runtime.files import atomic_folder
from domix.runtime.tables import write_table
from domix.settings.params import Params


def main(params: Params) -> None:
    withheld = read_withheld(ARTIFACTS / "mixtures" / "summary.json")
    runs = run_names(params)
    folders = [ARTIFACTS / "embeddings" / "clip" / name for _, _, name in runs]
    # A process a core, each of which computes with one thread: a seeded UMAP knows no more.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    with ProcessPoolExecutor(min(len(runs), os.cpu_count() or 1), multiprocessing.get_context(method)) as pool:
        analysed = list(pool.map(partial(analyse_run, withheld, params.separation), folders))
    with atomic_folder(ARTIFACTS / "analysis" / "separation") as folder:
        for table in ("umap", "distances", "separability"):
            parts = [(mixture, seed, made[table]) for (mixture, seed, _), made in zip(runs, analysed, strict=True)]
            write_table(folder / f"{table}.parquet", join_runs(parts))


if __name__ == "__main__":
    run(main)
