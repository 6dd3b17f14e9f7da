"""Signatures of robust models on plain arrays: kurtosis, outlier features, privileged directions of a head, pruning.

May import: evaluate, ood, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
