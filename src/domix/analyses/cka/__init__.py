"""How alike the domains are represented, layer by layer: centred kernel alignment of class means.

May import: analyses, embed, evaluate, figures, runtime, study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.cka.settings import Settings
from domix.analyses.contract import Analysis
from domix.runtime.tables import Column, TableSchema

LAYER = (
    Column("layer", "str", "name of the layer"),
    Column("depth", "int64", "its place, from 0"),
)
KERNEL = Column("kernel", "str", "linear or rbf")
VALUE = Column("value", "float64", "CKA, in -1..1")

ANALYSIS = Analysis(
    name="cka",
    package=__name__,
    Settings=Settings,
    needs="embeddings",
    tables={
        "cka": TableSchema(
            "cka",
            (
                *LAYER,
                KERNEL,
                Column("classes", "str", "classes that are compared: all, test or seen"),
                Column("domain_a", "str", "one domain"),
                Column("domain_b", "str", "the other"),
                Column("n", "int64", "classes that both have"),
                VALUE,
            ),
            "likeness of two domains' class means in a layer",
        )
    },
    plots={
        "cka": TableSchema(
            "cka",
            (
                Column("mixture", "str", "of the runs"),
                *LAYER,
                VALUE,
                KERNEL,
                Column("pairs", "str", "pairs with the test domain, or the others"),
            ),
            "mean CKA a layer over the test classes",
        )
    },
)
