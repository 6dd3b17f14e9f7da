"""Sparse autoencoders of activations: how good they are, and what their units answer to.

May import: activations, analyses, data.classes, data.mixtures, data.store, embed, encoders, encoders.weights, evaluate,
figures, model, runtime, study, train.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.sae.settings import Settings
from domix.runtime.tables import Column, TableSchema

UNIT = Column("unit", "int64", "its number")
DOMAIN = Column("domain", "str", "domain of the images")
VARIANCE = Column("explained_variance", "float64", "share of the activations' variance that it reconstructs")
FIRING = Column("l0", "float64", "units that fire on an activation (of an image, or of a position), mean")

ANALYSIS = Analysis(
    name="sae",
    package=__name__,
    Settings=Settings,
    needs="activations",
    plots={
        "reconstruction": TableSchema(
            "reconstruction",
            (
                Column("mixture", "str", "of the runs"),
                DOMAIN,
                VARIANCE,
                FIRING,
                Column("accuracy", "float64", "balanced zero-shot accuracy on the test classes"),
                Column("accuracy_reconstructed", "float64", "the same with the reconstruction in place"),
            ),
            "what a model loses to its sparse autoencoder, mean over seeds",
        )
    },
    tables={
        "quality": TableSchema(
            "quality",
            (
                Column("site", "str", "where the activations are read"),
                Column("channels", "int64", "of an activation"),
                Column("units", "int64", "of the autoencoder"),
                Column("n", "int64", "test images"),
                VARIANCE,
                FIRING,
                Column("dead", "float64", "share of units that fire on no test image's activations"),
                Column("dense", "float64", "share of units that fire on more than a tenth of these"),
            ),
            "how good an autoencoder is on the test images",
        ),
        "domains": TableSchema(
            "domains",
            (
                DOMAIN,
                Column("cells", "str", "classes: all, test or seen"),
                Column("n", "int64", "test images"),
                VARIANCE,
                FIRING,
                Column("accuracy", "float64", "balanced zero-shot accuracy of the model"),
                Column(
                    "accuracy_reconstructed", "float64", "the same with the reconstruction in the activation's place"
                ),
                Column("loss", "float64", "cross-entropy of the model's zero-shot prediction"),
                Column("loss_reconstructed", "float64", "the same with the reconstruction"),
                Column("loss_ablated", "float64", "the same with zeros"),
                Column(
                    "recovered",
                    "float64",
                    "share of what zeros lose that the reconstruction gains back; NaN if nothing",
                ),
            ),
            "how good an autoencoder is in each domain, and what the model makes of what it says",
        ),
        "units": TableSchema(
            "units",
            (
                UNIT,
                Column("density", "float64", "share of test images that it fires on"),
                Column("mean", "float64", "its value on these"),
                Column("max", "float64", "its greatest value"),
                Column("domain", "str", "domain with the highest mean value; null of a dead unit"),
                Column("domain_share", "float64", "that mean over the sum of all domains' means"),
                Column("class", "str", "class with the highest mean value; null of a dead unit"),
                Column("class_share", "float64", "that mean over the sum of all classes' means"),
                Column("word", "str", "the word whose text embedding it resembles most; null within the model"),
                Column("cosine", "float64", "how much"),
            ),
            "what each unit answers to",
        ),
        "images": TableSchema(
            "images",
            (
                UNIT,
                DOMAIN,
                Column("place", "int64", "0 for the highest value"),
                Column("value", "float64", "of the unit"),
                Column("row", "int64", "row of the image in its source's index"),
                Column("class", "str", "its class"),
            ),
            "the test images on which the units that are browsed are most active",
        ),
        "histograms": TableSchema(
            "histograms",
            (
                UNIT,
                DOMAIN,
                Column("bin", "int64", "0: silent; from 1 on even parts of what lies below its greatest value"),
                Column("high", "float64", "upper end of the bin"),
                Column("n", "int64", "test images"),
            ),
            "how strongly the units that are browsed answer to each domain's images",
        ),
    },
)
