"""Compare every run's representations between domains, layer by layer: `python -m stages.cka`."""

from domix.analysis.cka import compare_domains
from domix.analysis.study import join_runs, read_withheld
from domix.evaluate.embeddings import load_embeddings
from domix.project.common import ARTIFACTS, run, run_names
from domix.runtime.files import atomic_folder
from domix.runtime.tables import write_table
from domix.settings.params import Params


def main(params: Params) -> None:
    withheld = read_withheld(ARTIFACTS / "mixtures" / "summary.json")
    parts = []
    for mixture, seed, name in run_names(params):
        embeddings = load_embeddings(ARTIFACTS / "embeddings" / "clip" / name)
        withheld.check(embeddings)
        table = compare_domains(embeddings, kernels=params.cka.kernels, subsets=withheld.class_subsets())
        parts.append((mixture, seed, table))
    with atomic_folder(ARTIFACTS / "analysis" / "cka") as folder:
        write_table(folder / "cka.parquet", join_runs(parts))


if __name__ == "__main__":
    run(main)
