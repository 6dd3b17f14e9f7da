"""Training mixtures: cells, recipes, names, selection, and the file that a training opens.

May import: data.classes, data.store, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc.
"""
