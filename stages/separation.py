"""Measure and map how far apart every run keeps the domains: `python -m stages.separation`."""

from domix.analysis.separation import distance_table, separability_table, umap_table
from domix.analysis.study import join_runs, read_withheld
from domix.config import Params
from domix.evaluate.embeddings import load_embeddings
from domix.runtime.files import atomic_folder
from domix.runtime.tables import write_table
from stages.common import ARTIFACTS, run, run_names


def main(params: Params) -> None:
    withheld = read_withheld(ARTIFACTS / "mixtures" / "summary.json")
    parts = {"umap": [], "distances": [], "separability": []}
    for mixture, seed, name in run_names(params):
        embeddings = load_embeddings(ARTIFACTS / "embeddings" / "clip" / name)
        withheld.check(embeddings)
        points = umap_table(
            embeddings,
            pictures=params.separation.pictures,
            neighbours=params.separation.neighbours,
            min_distance=params.separation.min_distance,
            densmap=params.separation.densmap,
            seed=params.separation.seed,
        )
        points.insert(3, "withheld", withheld.rows(points))
        parts["umap"].append((mixture, seed, points))
        parts["distances"].append((mixture, seed, distance_table(embeddings)))
        parts["separability"].append((mixture, seed, separability_table(embeddings)))
    with atomic_folder(ARTIFACTS / "analysis" / "separation") as folder:
        for table, runs in parts.items():
            write_table(folder / f"{table}.parquet", join_runs(runs))


if __name__ == "__main__":
    run(main)
