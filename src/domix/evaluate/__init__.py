"""Evaluation: accuracy, its uncertainty, robustness, from embeddings on disk.

May import: data.classes, embed, runs, runtime, study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
