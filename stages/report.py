"""Turn the tables of the study into metrics, plots and the page that a reader opens: `python -m stages.report`."""

from contextlib import ExitStack
from pathlib import Path

from domix.config import Params
from domix.data.shards import ShardReader
from domix.report import card, datacards, leakage, page, plots, tables
from domix.report.study import Study, load_study
from domix.runtime.files import atomic_folder, sha256_file, write_json, write_text
from stages.common import ARTIFACTS, provenance, run, stage_times

METRICS = Path("metrics")


def main(params: Params) -> None:
    study = load_study(ARTIFACTS, params.mixtures, params.seeds, params.evaluate.confidence)
    shards = {source: ARTIFACTS / "shards" / source for source in params.sources}
    origin = page.Provenance(made=provenance(), times=stage_times(), digests=digests(params, study))
    numbers = tables.results(study) | leakage.results(study)
    cards = [datacards.read_card(folder, source) for source, folder in shards.items()]
    with ExitStack() as stack:
        readers = {source: stack.enter_context(ShardReader(folder)) for source, folder in shards.items()}
        folder = stack.enter_context(atomic_folder(ARTIFACTS / "report"))
        plots.write(study, folder / "plots")
        write_text(folder / "study.svg", card.draw(study, page.source("style.css")))
        html = page.render(study, params, origin, cards, lambda source, row: readers[source].read(row))
        write_text(folder / "index.html", html)
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
