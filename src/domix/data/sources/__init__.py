"""Sources: data sets, one module each; which files they consist of, and which samples these hold.

May import: data.archives, data.classes, data.store, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
