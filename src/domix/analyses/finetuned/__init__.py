"""The fine-tuned group: models fine-tuned on natural images by WiSE-FT's recipe, and all weights on the way there.

May import: analyses, analyses.pruning, analyses.run_cka, activations, data.loading, data.mixtures, data.store, embed,
encoders, evaluate, figures, finetuning, model, runtime, signature, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.finetuned.settings import Settings
from domix.runtime.tables import Column, TableSchema

ALPHA = Column("alpha", "float64", "weight of the fine-tuned model: 0 is the zero-shot model, 1 the fine-tuned one")
GROUP = Column(
    "cells",
    "str",
    "held_out: of the test domain and the test classes; seen: its other classes; natural: of the natural domain;"
    " natural_tested: its images of the test classes",
)
N = Column("n", "int64", "images")

ANALYSIS = Analysis(
    name="finetuned",
    package=__name__,
    Settings=Settings,
    needs="encoder",
    tables={
        "curve": TableSchema(
            "curve",
            (
                ALPHA,
                GROUP,
                Column("metric", "str", "balanced_top1 (mean over classes) or top1"),
                Column("estimate", "float64", "its value, a share"),
                N,
            ),
            "accuracy of the interpolated weights",
        ),
        "signature": TableSchema(
            "signature",
            (
                ALPHA,
                Column("kurtosis", "float64", "of the image embedding of natural images, mean"),
                Column("se", "float64", "its standard error"),
                Column("outliers", "int64", "outlier features"),
                Column("norm_share", "float64", "share of the squared length that these carry"),
                Column("top", "float64", "largest importance of a direction of the head, at the scale of prototypes"),
                Column("max_to_mean", "float64", "that by the mean importance"),
                Column("effective_rank", "float64", "exp of the entropy of the importances"),
                Column("cka", "float64", "unbiased linear CKA of the embedding with the zero-shot model's"),
                N,
                Column("trained_on", "int64", "natural training images of the fine-tuning"),
            ),
            "the signature along the way from the zero-shot to the fine-tuned weights",
        ),
        "pruning": TableSchema(
            "pruning",
            (
                ALPHA,
                Column("order", "str", "what is pruned first: the least importance, the least singular value, random"),
                Column("draw", "int64", "number of the random order, from 0; of others 0"),
                Column("percent", "float64", "of the directions, that are pruned"),
                Column("kept", "int64", "directions left"),
                GROUP,
                Column("accuracy", "float64", "balanced accuracy"),
                N,
            ),
            "accuracy of the pruned head, bias kept",
        ),
    },
    plots={
        "finetuned": TableSchema(
            "finetuned",
            (
                Column("mixture", "str", "of the runs"),
                Column("series", "str", "group of cells"),
                Column("x", "float64", "alpha"),
                Column("y", "float64", "balanced accuracy, mean over seeds"),
            ),
            "accuracy by alpha",
        )
    },
)
