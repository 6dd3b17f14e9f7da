"""Outlier features: kurtosis of activations and the components that stand out, site by site and over training.

May import: analyses, embed, encoders, evaluate, figures, model, runs, runtime, signature, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.model_facts import MODELS
from domix.analyses.outliers.settings import Settings
from domix.runs import CLIP, SUPERVISED
from domix.runtime.tables import Column, TableSchema

WHEN = (
    Column("weights", "str", "initial (drawn by the run's seed, before training), kept (on the way) or last"),
    Column("checkpoint", "int64", "epochs of training; 0: the initial weights"),
)
SITE = (Column("site", "str", "where activations are read"), Column("depth", "int64", "its place, from 0"))
IMAGES = Column("images", "str", "domain of the images; all: of every domain")
VALUES = (
    Column("kurtosis", "float64", "of an image's activation, not excess; mean over images"),
    Column("median", "float64", "its median over images"),
    Column("standard_error", "float64", "of the mean over images"),
    Column("outliers", "int64", "outlier features"),
    Column("norm_share", "float64", "share of the squared length of activations that they carry"),
)
N = Column("n", "int64", "images; those whose components are all equal are left out")

ANALYSIS = Analysis(
    name="outliers",
    package=__name__,
    Settings=Settings,
    needs="activations",
    tables={
        "output": TableSchema(
            "output",
            (Column("checkpoint", "int64", "epochs of training; the last weights are the last"), IMAGES, *VALUES, N),
            "kurtosis and outlier features of what the head reads (image embeddings, or features) of all test images",
        ),
        "sites": TableSchema(
            "sites",
            (
                *WHEN,
                *SITE,
                Column("width", "int64", "components"),
                IMAGES,
                *VALUES,
                Column(
                    "large",
                    "int64",
                    "features at least as large as `magnitude` in a share of `frequency` of the images",
                ),
                N,
            ),
            "the same of every site, of images that were drawn, at the checkpoints that were embedded, too",
        ),
        "features": TableSchema(
            "features",
            (
                *WHEN,
                *SITE,
                Column("feature", "int64", "its number, from 0"),
                Column("mean_absolute", "float64", "mean over images of its absolute value"),
                Column("times_mean", "float64", "that by the mean over all features of the site"),
            ),
            "the outlier features of every site over the images of all domains",
        ),
        "models": MODELS,
    },
    optional=("features", "sites"),
    reads_checkpoints=True,
    kinds=(CLIP, SUPERVISED),
    plots={
        "kurtosis": TableSchema(
            "kurtosis",
            (
                Column("mixture", "str", "of the runs"),
                Column("series", "str", "before or after training"),
                Column("x", "int64", "place of the site, from 0"),
                Column("y", "float64", "kurtosis, mean over images of all domains and over seeds"),
            ),
            "kurtosis a site",
        )
    },
)
