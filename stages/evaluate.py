"""Zero-shot accuracy of every run, with intervals and paired comparisons: `python -m stages.evaluate`."""

from domix.config import Params
from domix.evaluate import tables
from domix.evaluate.embeddings import load_embeddings
from domix.runtime.errors import DataError
from domix.runtime.files import atomic_folder, read_json
from domix.runtime.tables import write_table
from stages.common import ARTIFACTS, run, run_names


def main(params: Params) -> None:
    path = ARTIFACTS / "mixtures" / "summary.json"
    summary = read_json(path)
    standard = {mixture["name"]: mixture["standard_name"] for mixture in summary["mixtures"]}
    plan = tables.Plan(
        test_domain=summary["test_domain"],
        domains=summary["domains"],
        classes=summary["classes"],
        test_classes=summary["test_classes"],
        top_k=params.evaluate.top_k,
        resamples=params.evaluate.bootstrap,
        confidence=params.evaluate.confidence,
        seed=params.evaluate.seed,
    )
    outcomes = []
    for mixture, seed, name in run_names(params):
        if mixture not in standard:
            raise DataError(f"{path} does not describe the mixture {mixture!r}: run dvc repro")
        embeddings = load_embeddings(ARTIFACTS / "embeddings" / "clip" / name)
        outcome = tables.classify(embeddings, plan, mixture=mixture, standard_name=standard[mixture], seed=seed)
        outcomes.append(outcome)
    tables.check_same_pictures(outcomes)
    metrics, paired = tables.metric_tables(outcomes, plan)
    with atomic_folder(ARTIFACTS / "eval") as folder:
        write_table(folder / "metrics.parquet", metrics)
        write_table(folder / "paired.parquet", paired)
        write_table(folder / "per_class.parquet", tables.class_table(outcomes, plan))
        write_table(folder / "predictions.parquet", tables.prediction_table(outcomes, plan))


if __name__ == "__main__":
    run(main)
