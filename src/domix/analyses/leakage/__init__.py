"""Held-out images, and what looks like them, among the training samples of every mixture.

May import: analyses, data.mixtures, data.store, embed, model, runs, runtime, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.leakage.settings import Settings
from domix.runtime.tables import Column, TableSchema

MIXTURE = Column("mixture", "str", "training mixture")

ANALYSIS = Analysis(
    name="leakage",
    package=__name__,
    Settings=Settings,
    needs="encoder",
    section_settings=("examples",),
    joint_tables={
        "duplicates": TableSchema(
            "duplicates",
            (
                Column("kind", "str", "exact (equal files), near (perceptual hash) or embedding"),
                Column("test_row", "int64", "row of the held-out test image"),
                Column("source", "str", "source of the training sample"),
                Column("row", "int64", "its row there"),
                Column("domain", "str", "its domain"),
                Column("class", "str", "its class; none in a corpus without labels"),
                Column("distance", "int64", "bits by which the hashes differ; none for embedding"),
                Column("similarity", "float64", "cosine of the embeddings; NaN for the others"),
                Column("tested", "bool", "whether the sample lies in a held-out cell"),
                Column("mixtures", "list[str]", "names of the mixtures that show it"),
            ),
            "training samples like a held-out test image; of the kind embedding the nearest five",
        ),
        "summary": TableSchema(
            "summary",
            (
                MIXTURE,
                Column("kind", "str", "as in duplicates"),
                Column("samples", "int64", "samples outside the held-out cells that are like a held-out image"),
                Column("held_out_samples", "int64", "samples within them that are"),
                Column("same_class", "int64", "those of `samples` like an image of their own class"),
                Column("images", "int64", "held-out images that have such a sample"),
                Column("held_out", "int64", "held-out images"),
                Column("n", "int64", "samples of the mixture"),
            ),
            "what was found in each mixture",
        ),
        "domains": TableSchema(
            "domains",
            (
                MIXTURE,
                Column("source", "str", "source of the samples"),
                Column("domain", "str", "their domain; all: the source whole; none: without one"),
                Column("n", "int64", "samples"),
                Column("labelled", "int64", "of them labelled as the test domain"),
                Column("taken", "int64", "taken for the test domain by a probe"),
                Column("share", "float64", "taken / n"),
                Column("true_positive", "float64", "share of the test domain's images that the probe takes for it"),
                Column("false_positive", "float64", "share of the others'"),
                Column("estimate", "float64", "share of the test domain, corrected for both; of all only"),
                Column("low", "float64", "lower end of its interval"),
                Column("high", "float64", "upper end"),
            ),
            "how much of each mixture looks like the test domain",
        ),
    },
)
