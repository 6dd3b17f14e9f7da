"""Turn the tables of the study into metrics, plots and the page that a reader opens: `python -m stages.report`.

`python -m stages.report FOLDER` writes a page of an unfinished study into a new folder of your own, and no metrics.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from domix.config import Params
from domix.data.shards import ShardReader
from domix.report import beside, card, datacards, leakage, modelcards, page, plots, tables, tracked
from domix.report.study import Results, load_results
from domix.runtime.errors import ParameterError
from domix.runtime.files import atomic_folder, sha256_file, write_json, write_text
from stages.common import ARTIFACTS, provenance, run, stage_times
from stages.tracking import study_name, tracker_of

METRICS = Path("metrics")


def main(params: Params, folder: str | None = None) -> None:
    study = load_results(
        ARTIFACTS,
        params.mixtures,
        params.seeds,
        params.evaluate.confidence,
        supervised=params.supervised.mixtures,
        public=list(params.models),
        unfinished=folder is not None,
    )
    if folder is None:
        numbers = tables.results(study) | beside.results(study) | leakage.results(study)
        write(study, params, ARTIFACTS / "report")
        write_json(METRICS / "results.json", numbers)
        record(params, study)
    elif Path(folder).exists():
        raise ParameterError(f"{folder} exists: name a new folder for the page")
    else:
        write(study, params, Path(folder))


def write(study: Results, params: Params, target: Path) -> None:
    """Write the page, its pictures' data and the cards into a folder, whole or not at all."""
    shards = {source: ARTIFACTS / "shards" / source for source in params.sources}
    origin = page.Provenance(made=provenance(), times=stage_times(), digests=digests(params, study))
    cards = [datacards.read_card(folder, source) for source, folder in shards.items()]
    licences = datacards.licences(cards)
    with ExitStack() as stack:
        readers = {source: stack.enter_context(ShardReader(folder)) for source, folder in shards.items()}
        folder = stack.enter_context(atomic_folder(target))
        plots.write(study, folder / "plots")
        write_text(folder / "study.svg", card.draw(study, page.source("style.css")))
        for made in modelcards.model_cards(study, licences) + modelcards.data_cards(study, licences):
            write_text(folder / "cards" / f"{made.name}.md", modelcards.markdown(made))
        html = page.render(study, params, origin, cards, lambda source, row: readers[source].read(row))
        write_text(folder / "index.html", html)


def record(params: Params, study: Results) -> None:
    """Tell MLflow of the study: its accuracies and figures; its trainings become parts of its record."""
    inputs = {f"mixture.{mixture['name']}": mixture["digest"] for mixture in study.summary["mixtures"]}
    tracker = tracker_of(params, "report", study_name(params), inputs)()
    tracker.params(
        {key: getattr(params, key) for key in ("test_domain", "natural_domain", "sources", "mixtures", "seeds")}
    )
    tracker.metrics(tracked.headline(study), step=0)
    for file in (ARTIFACTS / "report" / "study.svg", ARTIFACTS / "report" / "index.html", METRICS / "results.json"):
        tracker.file(file.name, file.read_bytes())
    for weights, results in tracked.models(study).items():
        tracker.adopt(weights, results)
    tracker.finish(succeeded=True)


def digests(params: Params, study: Results) -> dict[str, str]:
    """Return what identifies the data, the mixtures and the models: SHA-256 by name."""
    indices = [ARTIFACTS / "shards" / source / "index.parquet" for source in params.sources]
    files = {path.as_posix(): sha256_file(path) for path in indices}
    mixtures = {f"mixture {m['name']} ({m['alias']})": m["digest"] for m in study.summary["mixtures"]}
    models = {f"weights of {m}-s{s}": model["done"]["weights_sha256"] for (m, s), model in study.models.items()}
    others = study.further.classifiers.items()
    classifiers = {f"weights of the classifier {m}-s{s}": model["done"]["weights_sha256"] for (m, s), model in others}
    return files | mixtures | models | classifiers


if __name__ == "__main__":
    run(main, timed=len(sys.argv) == 1)
