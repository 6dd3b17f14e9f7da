"""Turn the tables of the study into metrics, plots and the page that a reader opens: `python -m stages.report`.

`python -m stages.report FOLDER` writes a page of an unfinished study into a new folder of your own, and no metrics.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from domix.analyses.contract import Section
from domix.data.store.shards import ShardReader
from domix.project.common import ARTIFACTS, RATES, RUN_PAGE, package_versions, provenance, run, stage_times
from domix.project.tracking import study_name, tracker_of
from domix.report.figures import study_card
from domix.report.load.study import Results, load_results
from domix.report.page import datacards, modelcards, page, sections
from domix.report.page.run_facts import RunFacts
from domix.report.tables import headline, other_models, plot_data, summary
from domix.report.tables.claim import SCORES
from domix.runtime.errors import ParameterError, passing
from domix.runtime.files import atomic_folder, sha256_file, write_json, write_text
from domix.runtime.tables import as_csv
from domix.settings.params import Params

METRICS = Path("metrics")
RESULTS, NUMBERS, PLOTS = METRICS / "results.json", METRICS / "numbers.csv", METRICS / "plots"  # all in Git


def main(params: Params, folder: str | None = None) -> None:
    study = load_results(
        ARTIFACTS,
        params.mixtures,
        params.seeds,
        params.evaluate.confidence,
        supervised=params.supervised.mixtures,
        public=list(params.models),
        analyses=params.analyses,
        unfinished=folder is not None,
    )
    if folder is None:
        with passing(study=ARTIFACTS / "eval"):
            numbers = summary.results(study) | other_models.results(study)
        html, analyses = write(study, params, ARTIFACTS / "report", PLOTS)
        write_text(RUN_PAGE, page.with_run(html, run_facts()))
        write_text(NUMBERS, as_csv(summary.table_of(numbers | sections.metrics(analyses))))
        write_json(RESULTS, summary.foremost(numbers))
        record(params, study)
    elif Path(folder).exists():
        raise ParameterError(f"{folder} exists: name a new folder for the page")
    else:
        html, _ = write(study, params, Path(folder), Path(folder) / "plots")
        write_text(Path(folder) / "index.html", page.with_run(html, run_facts()))


def write(study: Results, params: Params, target: Path, plots: Path) -> tuple[str, dict[str, Section]]:
    """Write the page and the cards into a folder, the data of the plots into another, each whole or not at all.

    Returns the page, and what the analyses say by name.
    """
    shards = {source: ARTIFACTS / "shards" / source for source in params.sources}
    origin = page.Provenance(package_versions(), digests(params, study))
    cards = [datacards.read_card(folder, source) for source, folder in shards.items()]
    licences = datacards.licences(cards)
    with passing(image=ARTIFACTS / "shards"), ExitStack() as stack:
        readers = {source: stack.enter_context(ShardReader(folder)) for source, folder in shards.items()}

        def read(source: str, row: int) -> bytes:
            return readers[source].read(row)

        analyses, scores = sections.make_sections(study, params, read)
        folder = stack.enter_context(atomic_folder(target))
        SCORES.write(scores, folder / Path(SCORES.path).name)
        write_text(folder / "study.svg", study_card.draw(study, page.source("style.css")))
        for made in modelcards.model_cards(study, licences) + modelcards.data_cards(study, licences):
            write_text(folder / "cards" / f"{made.name}.md", modelcards.markdown(made))
        html = page.render(study, params, origin, cards, read, list(analyses.values()))
        write_text(folder / "index.html", html)
    with atomic_folder(plots) as folder:
        plot_data.write(study, analyses.values(), folder)
    return html, analyses


def run_facts() -> RunFacts:
    """Describe this run and the trainings that last ran here."""
    found = sorted(RATES.glob("*/*.csv"))
    rates = {path.relative_to(RATES).with_suffix("").as_posix(): pd.read_csv(path) for path in found}
    return RunFacts(provenance(), stage_times(), rates)


def record(params: Params, study: Results) -> None:
    """Tell MLflow of the study: its accuracies and figures; its trainings become parts of its record."""
    inputs = {f"mixture.{mixture['name']}": mixture["digest"] for mixture in study.summary["mixtures"]}
    tracker = tracker_of(params, "report", study_name(params), inputs)()
    tracker.params(
        {key: getattr(params, key) for key in ("test_domain", "natural_domain", "sources", "mixtures", "seeds")}
    )
    tracker.metrics(headline.headline(study), step=0)
    for file in (ARTIFACTS / "report" / "study.svg", RUN_PAGE, RESULTS, NUMBERS):
        tracker.file(file.name, file.read_bytes())
    for weights, results in headline.models(study).items():
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
