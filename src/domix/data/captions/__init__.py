"""Captions of samples: their own, or sentences made of class and domain.

May import: data.classes, data.store, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
