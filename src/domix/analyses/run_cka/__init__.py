"""How alike two models represent the same images, any site of one with any site of the other: CKA by mini-batches.

May import: activations, analyses, embed, encoders, figures, model, runtime, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.run_cka.settings import Settings
from domix.runtime.tables import Column, TableSchema

ANALYSIS = Analysis(
    name="run_cka",
    package=__name__,
    Settings=Settings,
    needs="activations",
    plots={
        "same_site": TableSchema(
            "same_site",
            (
                Column("mixture", "str", "the run that is compared with the reference"),
                Column("layer", "str", "site of both"),
                Column("depth", "int64", "its place, from 0"),
                Column("images", "str", "of the test domain, or of the other domains"),
                Column("value", "float64", "CKA; of other domains their mean"),
            ),
            "how alike a run is to the reference at the same site",
        )
    },
    joint_tables={
        "run_cka": TableSchema(
            "run_cka",
            (
                Column("reference", "str", "the run that all are compared with"),
                Column("run", "str", "the run that is compared, the reference among them"),
                Column("images", "str", "domain of the images; all: of every domain"),
                Column("site_a", "str", "site of the reference"),
                Column("depth_a", "int64", "its place, from 0"),
                Column("site_b", "str", "site of the run"),
                Column("depth_b", "int64", "its place, from 0"),
                Column("n", "int64", "images"),
                Column("value", "float64", "CKA by mini-batches, linear kernel"),
            ),
            "likeness of every site of a reference run and every site of another on the same test images",
        )
    },
)
