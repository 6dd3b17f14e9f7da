"""Turn the tables of the study into metrics, plots and the page that a reader opens: `python -m stages.report`."""

from pathlib import Path

from domix.config import Params
from domix.data.index import read_index
from domix.data.shards import ShardReader
from domix.report import card, page, plots, tables
from domix.report.study import Study, load_study
from domix.runtime.files import atomic_folder, sha256_file, write_json, write_text
from stages.common import ARTIFACTS, provenance, run, stage_times

METRICS = Path("metrics")


def main(params: Params) -> None:
    study = load_study(ARTIFACTS, params.mixtures, params.seeds, params.evaluate.confidence)
    shards = ARTIFACTS / "shards" / params.sources[0]
    origin = page.Provenance(made=provenance(), times=stage_times(), digests=digests(params, study))
    numbers = tables.results(study)
    with ShardReader(shards, read_index(shards)) as reader, atomic_folder(ARTIFACTS / "report") as folder:
        plots.write(study, folder / "plots")
        write_text(folder / "study.svg", card.draw(study, page.source("style.css")))
        write_text(folder / "index.html", page.render(study, params, origin, reader.read))
    write_json(METRICS / "results.json", numbers)


def digests(params: Params, study: Study) -> dict[str, str]:
    """Return what identifies the data, the mixtures and the models: SHA-256 by name."""
    indices = [ARTIFACTS / "shards" / source / "index.parquet" for source in params.sources]
    files = {path.as_posix(): sha256_file(path) for path in indices}
    mixtures = {f"mixture {m['name']} ({m['alias']})": m["digest"] for m in study.summary["mixtures"]}
    models = {f"weights of {m}-s{s}": model["done"]["weights_sha256"] for (m, s), model in study.models.items()}
    return files | mixtures | models


if __name__ == "__main__":
    run(main)
