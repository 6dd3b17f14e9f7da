"""Signatures of robust models on plain arrays: kurtosis, outlier features, privileged directions, pruning, concepts.

May import: evaluate, ood, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
