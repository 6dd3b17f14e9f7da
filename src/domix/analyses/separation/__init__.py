"""How far apart a model's embedding keeps the domains: a map, distances, one number a domain.

May import: analyses, data.mixtures, embed, figures, runtime, study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.separation.settings import Settings
from domix.runtime.tables import Column, TableSchema

DOMAIN = Column("domain", "str", "drawing style of the image")
CLASS = Column("class", "str", "object that it shows")
HELD_OUT = Column("held_out", "bool", "whether it lies in a held-out cell")
PLACE = (
    Column("x", "float32", "where UMAP lays it: only nearness means something"),
    Column("y", "float32", "likewise"),
)
PAIR = (
    Column("domain_a", "str", "one domain"),
    Column("domain_b", "str", "the other"),
    Column("distance", "float64", "L2 distance"),
)

MAP = (Column("row", "int64", "row of the image in its source's index"), DOMAIN, CLASS, HELD_OUT, *PLACE)

ANALYSIS = Analysis(
    name="separation",
    package=__name__,
    Settings=Settings,
    needs="embeddings",
    optional=("umap_without", "scatter"),
    one_thread=True,  # a seeded UMAP knows no more
    tables={
        "umap": TableSchema(
            "umap",
            MAP,
            "a seeded draw of the test images of each domain, laid out in two dimensions",
        ),
        "umap_without": TableSchema(
            "umap_without",
            MAP,
            "the same images but those of one domain (`without`), laid out anew; no rows without one",
        ),
        "distances": TableSchema(
            "distances",
            (Column("kind", "str", "domain: of the domains' means; class: mean over common classes"), *PAIR),
            "how far the domains are apart in the embedding, every ordered pair",
        ),
        "separability": TableSchema(
            "separability",
            (
                Column("domain", "str", "domain that is told from the rest"),
                Column("value", "float64", "balanced accuracy of a cross-validated ridge probe (chance 0.5)"),
                Column("n", "int64", "its images"),
            ),
            "how well a linear probe tells a domain from the rest in classes that it has not seen",
        ),
        "differences": TableSchema(
            "differences",
            (
                Column("domain", "str", "domain that is compared with all others"),
                Column("rank", "int64", "place among its dimensions by the size of the difference, from 1"),
                Column("dimension", "int64", "dimension of the embedding, from 0"),
                Column("difference", "float64", "mean of the domain's images less that of all other images"),
            ),
            "in which dimensions of the embedding a domain differs from the rest",
        ),
        "scatter": TableSchema(
            "scatter",
            (
                Column("separated", "str", "domain that differs most from the rest in these two dimensions"),
                Column("row", "int64", "row of the image in its source's index"),
                DOMAIN,
                Column("x", "float32", "the image's value in the dimension of rank 1"),
                Column("y", "float32", "in that of rank 2"),
            ),
            "the images of `umap` in the two dimensions that separate a domain most",
        ),
    },
    plots={
        "umap": TableSchema(
            "umap", (Column("mixture", "str", "of the run"), DOMAIN, CLASS, HELD_OUT, *PLACE), "the maps of first seeds"
        ),
        "distances": TableSchema(
            "distances", (Column("mixture", "str", "of the runs"), *PAIR), "distances of domains, mean over seeds"
        ),
    },
)
