"""Accuracy of every model, with intervals and comparisons: `python -m stages.evaluate`."""

import pandas as pd

from domix.data.store.index import INDEX
from domix.embed.embeddings import check_index
from domix.evaluate import tables
from domix.evaluate.effective import study_rows
from domix.evaluate.outcomes import Plan, ScoredModel, check_same_images
from domix.evaluate.robustness import robustness_table, set_curves
from domix.evaluate.schemas import TABLES
from domix.evaluate.seeds_tables import seeds_tables
from domix.evaluate.trajectories import Trajectory, follow
from domix.project.common import ARTIFACTS, SETS, SUMMARY, run, runs_of
from domix.runtime.errors import passing
from domix.runtime.files import atomic_folder
from domix.settings.params import Params
from domix.study import SUPERVISED, read_study

NATURAL_ONLY = "natural-only"  # standard name of the mixture whose curve is the reference of effective robustness
EMBEDDINGS = ARTIFACTS / "embeddings"


def main(params: Params) -> None:
    study = read_study(SUMMARY, runs_of(params))
    plan = Plan(
        study=study,
        top_k=params.evaluate.top_k,
        resamples=params.evaluate.bootstrap,
        confidence=params.evaluate.confidence,
        seed=params.evaluate.seed,
        last=params.evaluate.last,
    )
    models = [ScoredModel(run, study.standard_name(run), EMBEDDINGS / run.kind / run.name) for run in study.runs]
    natural = next((model.run.mixture for model in models if model.standard_name == NATURAL_ONLY), None)
    courses = [trajectory(model, plan) for model in models]
    runs = [course.run for course in courses]
    index = ARTIFACTS / "shards" / params.sources[0] / INDEX
    for course in courses if index.is_file() else []:  # embeddings may have come without the images
        check_index(course.run.model.folder, index)
    outcomes = [run.final for run in runs]
    check_same_images(outcomes)
    metrics = tables.metric_table(outcomes, plan)
    mixtures, comparisons = seeds_tables(runs, metrics, plan)
    told_apart = [name for name in params.embed.sets if name not in params.embed.ood]
    with passing(view=SETS):
        further = set_curves(runs, told_apart, plan)
        robustness = robustness_table(models, told_apart, plan)
    curves = pd.concat([*(course.curve for course in courses), further], ignore_index=True)
    made = {
        "metrics": metrics,
        "per_class": tables.class_table(outcomes, plan),
        "paired": tables.paired_table(outcomes, plan),
        "predictions": tables.prediction_table(outcomes, plan),
        "mixtures": mixtures,
        "comparisons": comparisons,
        "curves": curves,
        "curves_per_class": pd.concat([course.by_class for course in courses], ignore_index=True),
        "robustness": robustness,
        "effective": study_rows(curves, plan, reference=natural),
    }
    with atomic_folder(ARTIFACTS / "eval") as folder:
        for name, table in made.items():
            TABLES[name].write(table, folder / f"{name}.parquet")


def trajectory(model: ScoredModel, plan: Plan) -> Trajectory:
    """Follow a model over its checkpoints; where there are too few, all keys that ask for more are named."""
    section = "supervised" if model.run.kind == SUPERVISED else "train"
    with passing(last=f"evaluate.last, {section}.checkpoints, embed.checkpoints"):
        return follow(model, plan)


if __name__ == "__main__":
    run(main)
