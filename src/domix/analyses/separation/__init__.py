"""How far apart a model's embedding keeps the domains: a map, distances, one number a domain.

May import: analyses, embed, figures, runtime, study.
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

ANALYSIS = Analysis(
    name="separation",
    package=__name__,
    Settings=Settings,
    needs="embeddings",
    one_thread=True,  # a seeded UMAP knows no more
    tables={
        "umap": TableSchema(
            "umap",
            (Column("row", "int64", "row of the image in its source's index"), DOMAIN, CLASS, HELD_OUT, *PLACE),
            "a seeded draw of the test images of each domain, laid out in two dimensions",
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
