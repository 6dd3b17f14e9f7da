"""Scores of single images, all oriented: the higher, the more in-distribution.

May import: ood, runtime.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""

from domix.ood.scores import gaussian, logits, neighbours, prototypes  # noqa: F401 - importing them registers the scores
