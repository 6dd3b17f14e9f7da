"""Scores of single images, all oriented: the higher, the more in-distribution.

May import: ood, runtime.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""

# Importing these registers their scores.
from domix.ood.scores import gaussian, head, logits, neighbours, prototypes  # noqa: F401
