"""Concepts: which of them the units of a model encode, how many a unit, and which of them models have in common.

May import: analyses, data, embed, encoders, evaluate, figures, runs, runtime, signature, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.concepts.settings import Settings
from domix.analyses.contract import Analysis
from domix.analyses.model_facts import MODELS
from domix.runs import CLIP, SUPERVISED
from domix.runtime.tables import Column, TableSchema

SITE = Column(
    "site",
    "str",
    "where activations are read; output: what the head reads, the image embedding or a classifier's features",
)
CONCEPT = (Column("concept", "str", "its name"), Column("category", "str", "group, subgroup or class, domain, colour"))
UNIT = Column("unit", "int64", "component or channel, from 0")
SIGN = Column("sign", "int64", "1: images rank by its value; -1: by its value turned round")

ANALYSIS = Analysis(
    name="concepts",
    package=__name__,
    Settings=Settings,
    needs="activations",
    tables={
        "concepts": TableSchema(
            "concepts",
            (
                SITE,
                *CONCEPT,
                Column("shown", "int64", "images that show it"),
                Column("images", "int64", "images among which it is sought"),
                Column("ap", "float64", "average precision of the best unit; of one that says nothing: shown / images"),
                UNIT,
                SIGN,
            ),
            "the best unit of every concept",
        ),
        "units": TableSchema(
            "units",
            (SITE, UNIT, SIGN, *CONCEPT, Column("ap", "float64", "average precision")),
            "every pair of a unit and a concept whose average precision is 0.5 or more",
        ),
        "curve": TableSchema(
            "curve",
            (
                SITE,
                Column("threshold", "float64", "of the average precision, from which a unit encodes a concept"),
                Column("unique", "int64", "concepts that some unit encodes"),
                Column("units", "int64", "units that encode any"),
                Column("polysemanticity", "float64", "concepts a unit, mean over these; NaN where there are none"),
            ),
            "unique concepts and polysemanticity over thresholds from 0.5 to 1",
        ),
        "models": MODELS,
    },
    optional=("units",),
    plots={
        "concepts": TableSchema(
            "concepts",
            (
                Column("mixture", "str", "of the runs"),
                Column("series", "str", "site"),
                Column("x", "float64", "threshold of the average precision"),
                Column("y", "float64", "unique concepts, mean over seeds"),
            ),
            "unique concepts over the threshold",
        )
    },
    section_settings=("threshold",),
    kinds=(CLIP, SUPERVISED),
)
