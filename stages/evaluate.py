"""Accuracy of every model, with intervals and comparisons: `python -m stages.evaluate`."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from domix.data.index import INDEX
from domix.evaluate import tables
from domix.evaluate.curves import follow
from domix.evaluate.effective import study_rows
from domix.evaluate.embeddings import check_index
from domix.evaluate.outcomes import Model, Plan, check_same_pictures
from domix.evaluate.robustness import robustness_table, set_curves
from domix.evaluate.seeds_tables import seeds_tables
from domix.project.common import ARTIFACTS, run, run_name
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_folder, read_json
from domix.runtime.tables import write_table
from domix.settings.params import Params

NATURAL_ONLY = "natural-only"  # standard name of the mixture whose curve is the reference of effective robustness
SUMMARY = ARTIFACTS / "mixtures" / "summary.json"
EMBEDDINGS = ARTIFACTS / "embeddings"


def main(params: Params) -> None:
    summary = read_json(SUMMARY)
    plan = Plan(
        test_domain=summary["test_domain"],
        natural_domain=summary["natural_domain"],
        domains=summary["domains"],
        classes=summary["classes"],
        test_classes=summary["test_classes"],
        top_k=params.evaluate.top_k,
        resamples=params.evaluate.bootstrap,
        confidence=params.evaluate.confidence,
        seed=params.evaluate.seed,
        last=params.evaluate.last,
    )
    courses = [follow(model, plan) for model in models(params, summary)]
    runs = [course.run for course in courses]
    index = ARTIFACTS / "shards" / params.sources[0] / INDEX
    for course in courses if index.is_file() else []:  # embeddings may have come without the pictures
        check_index(course.run.model.folder, index)
    outcomes = [run.final for run in runs]
    check_same_pictures(outcomes)
    metrics = tables.metric_table(outcomes, plan)
    mixtures, comparisons = seeds_tables(runs, metrics, plan)
    further = set_curves(runs, params.embed.sets, plan)
    curves = pd.concat([*(course.curve for course in courses), further], ignore_index=True)
    natural = next((run.model.mixture for run in runs if run.model.standard_name == NATURAL_ONLY), None)
    made = {
        "metrics": metrics,
        "per_class": tables.class_table(outcomes, plan),
        "paired": tables.paired_table(outcomes, plan),
        "predictions": tables.prediction_table(outcomes, plan),
        "mixtures": mixtures,
        "comparisons": comparisons,
        "curves": curves,
        "curves_per_class": pd.concat([course.by_class for course in courses], ignore_index=True),
        "robustness": robustness_table([run.model for run in runs], params.embed.sets, plan),
        "effective": study_rows(curves, plan, reference=natural),
    }
    with atomic_folder(ARTIFACTS / "eval") as folder:
        for name, table in made.items():
            write_table(folder / f"{name}.parquet", table)


def models(params: Params, summary: dict[str, Any]) -> Iterator[Model]:
    """List every model that the parameters ask for: trained here with either objective, and public."""
    standard = {mixture["name"]: mixture["standard_name"] for mixture in summary["mixtures"]}
    for kind, mixtures in (("clip", params.mixtures), ("supervised", params.supervised.mixtures)):
        for mixture in mixtures:
            if mixture not in standard:
                raise DataError(f"{SUMMARY} does not describe the mixture {mixture!r}: run dvc repro")
            for seed in params.seeds:
                yield Model(kind, mixture, standard[mixture], seed, EMBEDDINGS / kind / run_name(mixture, seed))
    for name in params.models:
        yield Model("public", name, "", 0, EMBEDDINGS / "public" / name)


if __name__ == "__main__":
    run(main)
