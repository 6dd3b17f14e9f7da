"""Fetching: downloads that continue where they stopped, and the verification of what lies on this disk.

May import: data.archives, data.sources, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
