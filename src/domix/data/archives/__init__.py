"""Files as they are published: manifests of them, and archives of unknown origin, read without trusting them.

May import: runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
