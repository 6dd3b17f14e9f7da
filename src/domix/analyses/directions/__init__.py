"""Privileged directions: which singular directions of a head the images' activations lie along.

May import: analyses, embed, figures, runs, runtime, signature, study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.directions.settings import Settings
from domix.analyses.model_facts import MODELS
from domix.runs import CLIP, SUPERVISED
from domix.runtime.tables import Column, TableSchema

DIRECTION = Column("direction", "int64", "its number, from 0, singular values falling")
MEAN = Column("cosine_with_mean", "float64", "absolute cosine with the mean embedding")
OUTLIER = Column(
    "outlier_component", "float64", "largest absolute component along an outlier feature; NaN where there is none"
)

ANALYSIS = Analysis(
    name="directions",
    package=__name__,
    Settings=Settings,
    needs="embeddings",
    tables={
        "directions": TableSchema(
            "directions",
            (
                DIRECTION,
                Column("singular_value", "float64", "of the head"),
                Column("abs_mean", "float64", "importance: singular value x mean of |cosine with an embedding|"),
                Column("mean_abs", "float64", "importance: singular value x |mean of the cosine|"),
                MEAN,
                Column("axis", "int64", "the component along which it lies most, from 0"),
                Column("axis_component", "float64", "absolute value of that component; 1: it is an axis"),
                OUTLIER,
            ),
            "the singular directions of the zero-shot head, or of a classifier's last layer",
        ),
        "summary": TableSchema(
            "summary",
            (
                Column("importance", "str", "abs_mean or mean_abs"),
                Column("images", "int64", "of which the embeddings are"),
                Column("width", "int64", "components of an embedding"),
                Column("rank", "int64", "directions of the head"),
                Column("top", "float64", "largest importance"),
                Column("max_to_mean", "float64", "largest by mean importance"),
                Column("kurtosis", "float64", "of the importances, not excess"),
                Column("standing_out", "int64", "directions above mean + `deviations` standard deviations"),
                Column("effective_rank", "float64", "exp of the entropy of the importances"),
                DIRECTION,
                MEAN,
                Column("axis_component", "float64", "largest absolute component of the most important direction"),
                OUTLIER,
                Column("outliers", "int64", "outlier features of the embeddings"),
            ),
            "how far the most important direction stands above the others; from `direction` on: of that one",
        ),
        "models": MODELS,
    },
    plots={
        "importances": TableSchema(
            "importances",
            (
                Column("mixture", "str", "of the runs"),
                Column("series", "str", "abs_mean or mean_abs"),
                Column("x", "int64", "rank of the importance, from 1"),
                Column("y", "float64", "importance by mean importance, mean over seeds"),
            ),
            "importances by rank",
        )
    },
    section_settings=("importance",),
    kinds=(CLIP, SUPERVISED),
)
