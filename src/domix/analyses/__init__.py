"""Analyses: what an analysis is, the registry that finds them, and the runner that keeps each run's tables.

May import: data.mixtures, data.store, embed, evaluate, figures, ood, runs, runtime, runtime.processes,
study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
