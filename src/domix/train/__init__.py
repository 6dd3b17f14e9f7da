"""Training with Lightning, exact resume.

May import: data.loading, data.mixtures, model, runtime, runtime.tracking.
Must not import: open_clip, mlflow, dvc, pandas.
"""
