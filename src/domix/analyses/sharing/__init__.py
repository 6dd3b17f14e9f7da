"""How many features of a sparse autoencoder the domains share, with intervals and what chance would share.

May import: analyses, analyses.sae, embed, figures, runtime, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.sharing.settings import Settings
from domix.runtime.tables import Column, TableSchema

PAIR = (Column("domain_a", "str", "one domain"), Column("domain_b", "str", "the other"))
CELLS = Column("cells", "str", "classes that are averaged: all, test or seen")
VALUE = Column("value", "float64", "sharing, 0 to 1; NaN: no class can be compared")
SPREAD = (
    Column("low", "float64", "lower end of the confidence interval; NaN in parity mode"),
    Column("high", "float64", "upper end"),
    Column("null", "float64", "what is shared if domains are dealt among a class's images by chance, mean"),
    Column("p_value", "float64", "share of such deals that share no more, one added to both"),
)

ANALYSIS = Analysis(
    name="sharing",
    package=__name__,
    Settings=Settings,
    needs="activations",
    plots={
        "shared_features": TableSchema(
            "shared_features",
            (Column("mixture", "str", "of the runs"), *PAIR, Column("likeness", "float64", "sharing, 0 to 1")),
            "what every ordered pair of domains shares, mean over test classes and seeds",
        )
    },
    tables={
        "classes": TableSchema(
            "classes",
            (
                Column("class", "str", "class whose images are compared"),
                *PAIR,
                VALUE,
                Column("units", "int64", "units in the smaller of the two top 20"),
                Column("n_a", "int64", "test images in domain_a"),
                Column("n_b", "int64", "test images in domain_b"),
            ),
            "how many features two domains share in a class; cells without votes are left out",
        ),
        "pairs": TableSchema(
            "pairs",
            (
                CELLS,
                *PAIR,
                VALUE,
                *SPREAD,
                Column("n", "int64", "classes that both have"),
                Column("units", "float64", "units in the smaller of the two top 20, mean over these"),
            ),
            "how many features two domains share, mean over classes",
        ),
        "scores": TableSchema(
            "scores",
            (
                CELLS,
                Column("domain", "str", "domain whose score it is"),
                VALUE,
                *SPREAD,
                Column("n", "int64", "classes that it has with another domain"),
            ),
            "how many features a domain shares with the others: the mean of its row",
        ),
    },
)
