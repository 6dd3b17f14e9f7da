"""Pruning: what accuracy is left where only some directions of a head are kept.

May import: analyses, embed, evaluate, figures, runs, runtime, signature, study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""

from domix.analyses.contract import Analysis
from domix.analyses.pruning.settings import Settings
from domix.runs import CLIP, SUPERVISED
from domix.runtime.tables import Column, TableSchema

GROUP = Column(
    "cells",
    "str",
    "held_out: of the test domain and the test classes; seen: its other classes; natural: of the natural domain;"
    " natural_tested: its images of the test classes",
)
ACCURACY = Column("accuracy", "float64", "balanced accuracy")
N = Column("n", "int64", "images")

ANALYSIS = Analysis(
    name="pruning",
    package=__name__,
    Settings=Settings,
    needs="embeddings",
    tables={
        "curves": TableSchema(
            "curves",
            (
                Column("order", "str", "what is pruned first: the least importance, the least singular value, random"),
                Column("draw", "int64", "number of the random order, from 0; of others 0"),
                Column("percent", "float64", "of the directions, that are pruned"),
                Column("kept", "int64", "directions left"),
                GROUP,
                ACCURACY,
                N,
            ),
            "accuracy of the pruned head",
        ),
        "checkpoints": TableSchema(
            "checkpoints",
            (Column("checkpoint", "int64", "epochs of training; the last weights are the last"), GROUP, ACCURACY, N),
            "accuracy of the whole head at every checkpoint, for effective robustness",
        ),
    },
    reads_checkpoints=True,
    kinds=(CLIP, SUPERVISED),
    plots={
        "pruning": TableSchema(
            "pruning",
            (
                Column("mixture", "str", "of the runs"),
                Column("series", "str", "what is pruned first"),
                Column("x", "float64", "share of the directions kept"),
                Column("y", "float64", "balanced accuracy on the held-out cells, mean over draws and seeds"),
            ),
            "accuracy by the share kept",
        )
    },
)
