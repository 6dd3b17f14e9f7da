"""The tables of the evaluation, declared once: what the stage evaluate writes, and the report and the study view read.

Names of measures stand here too, since they are values of the column `metric`. Needs neither NumPy nor what makes them.
"""

from __future__ import annotations

from domix.runtime.tables import Column, TableSchema

BALANCED, POOLED, AMONG_TEST, MACRO_F1 = "balanced_top1", "top1", "balanced_top1_among_test", "macro_f1"
FOLDER = "artifacts/eval"

KIND = Column("kind", "str", "`clip`, `supervised` or `public`: what was trained, or that it was not trained here")
MIXTURE = Column("mixture", "str", "the mixture, as the study calls it; of a public model its name in `models`")
SEED = Column("seed", "int64", "seed of the training; of a public model 0")
RUN = (KIND, MIXTURE, SEED)
DOMAIN = Column("domain", "str", "domain of the test images")
CLASS = Column("class", "str", "their class")
CELLS = Column(
    "cells",
    "str",
    "which images of the domain: `held_out` (test classes in the test domain), `tested` (test classes in another"
    " domain), `seen` (all other classes), `all`",
)
METRIC = Column("metric", "str", "the measure: docs/statistics.md")
GROUP = (DOMAIN, CELLS, METRIC)
ESTIMATE = Column("estimate", "float64", "its value, a share")
LOW = Column("low", "float64", "lower end of the confidence interval; NaN where there is none")
HIGH = Column("high", "float64", "upper end of it")
ENDS = (LOW, HIGH)
N = Column("n", "int64", "test images")
N_CLASSES = Column("n_classes", "int64", "classes that have images among them")
SIZES = (N, N_CLASSES)
CHANCE = Column("chance", "float64", "what guessing gives; NaN for macro_f1")
METHOD = Column("method", "str", "how the interval was made: docs/statistics.md")
CHECKPOINT = Column("checkpoint", "int64", "epochs after which the weights were kept; the last weights are the last")
SEEDS = Column("seeds", "int64", "models that the estimate averages")
CHECKPOINTS = Column("checkpoints", "int64", "last checkpoints of each that it averages")
CORRECT = Column("correct", "int64", "images given their own class")
BASELINE = Column("baseline", "str", "the mixture that it is compared with")
DIFFERENCE = Column("difference", "float64", "estimate of the mixture less that of the baseline")
P_VALUE = Column("p_value", "float64", "of the sign-flip test")


def _declare(name: str, meaning: str, *columns: Column) -> TableSchema:
    return TableSchema(name, columns, meaning, path=f"{FOLDER}/{name}.parquet", written_by="evaluate")


METRICS = _declare(
    "metrics",
    "every measure of every model's last weights on every group of test images",
    *(*RUN, *GROUP, ESTIMATE, *ENDS, *SIZES, CHANCE, METHOD),
)
PER_CLASS = _declare(
    "per_class",
    "every model's accuracy on every cell that has test images",
    *(*RUN, DOMAIN, CLASS),
    Column("held_out", "bool", "is it a held-out cell: a test class in the test domain?"),
    *(N, CORRECT, Column("accuracy", "float64", "their share"), *ENDS),
)
PAIRED = _declare(
    "paired",
    "every mixture compared with every baseline of the same kind and seed, on the held-out cells",
    *(KIND, SEED, *GROUP, MIXTURE, BASELINE, DIFFERENCE, *ENDS, P_VALUE),
    Column("p_holm", "float64", "corrected over the mixtures that are compared with one baseline by one metric"),
    N,
)
PREDICTIONS = _declare(
    "predictions",
    "what every model took every test image for",
    *(*RUN, Column("row", "int64", "the image's row in the index of the packed source"), DOMAIN, CLASS),
    Column("predicted", "str", "the class of the highest score"),
    Column("rank", "int64", "place of the true class among all, 1: right"),
)
MIXTURES = _declare(
    "mixtures",
    "every mixture's measures over its seeds and the last checkpoints",
    *(KIND, MIXTURE, *GROUP, ESTIMATE, *ENDS, *SIZES, SEEDS, CHECKPOINTS, CHANCE, METHOD),
)
COMPARISONS = _declare(
    "comparisons",
    "mixtures compared over their seeds with the baselines, each pair once",
    *(KIND, *GROUP, MIXTURE, BASELINE, DIFFERENCE, *ENDS, P_VALUE),
    Column("p_holm", "float64", "corrected over all comparisons of one kind on one group of cells by one metric"),
    *(*SIZES, SEEDS, CHECKPOINTS),
    Column("detectable", "float64", "the least difference that would have been found"),
)
CURVES = _declare(
    "curves",
    "every measure of every checkpoint of the models trained here; of further sets of images `domain` is the set and"
    " `cells` the view (`all`, `subset`)",
    *(*RUN, CHECKPOINT, *GROUP, ESTIMATE, *SIZES),
)
CURVES_PER_CLASS = _declare(
    "curves_per_class",
    "how many images of each test class every checkpoint gets right, in the test domain and the natural domain",
    *(*RUN, CHECKPOINT, DOMAIN, CLASS, N, CORRECT),
)
ROBUSTNESS = _declare(
    "robustness",
    "accuracy on the further sets of images (`embed.sets`)",
    *(
        *RUN,
        Column("set", "str", "name of the set"),
        Column("labels", "str", "the view, `all`, `subset` or `classes of <set>`: docs/robustness.md"),
        METRIC,
    ),
    *(ESTIMATE, *ENDS, *SIZES, METHOD),
)
EFFECTIVE = _declare(
    "effective",
    "how far every checkpoint lies from the curve of natural images alone; no rows without such a curve",
    *(*RUN, CHECKPOINT),
    Column("x_name", "str", "what x is the accuracy on: domain, cells, metric"),
    Column("y_name", "str", "what y is"),
    Column("x", "float64", "accuracy without the shift"),
    Column("y", "float64", "accuracy under it"),
    Column("expected", "float64", "the curve at x"),
    Column("residual", "float64", "y less that"),
    Column("transform", "str", "`logit`, `probit` or `linear`: the axes on which the curve is a line"),
    Column("reference", "str", "the mixture whose checkpoints draw the curve"),
    Column("low", "float64", "lower end of the curve's bootstrap band at x"),
    Column("high", "float64", "upper end of it"),
)
TABLES = {
    schema.name: schema
    for schema in (
        *(METRICS, PER_CLASS, PAIRED, PREDICTIONS, MIXTURES, COMPARISONS),
        *(CURVES, CURVES_PER_CLASS, ROBUSTNESS, EFFECTIVE),
    )
}
