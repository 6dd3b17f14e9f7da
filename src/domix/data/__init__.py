"""Data: from published files to the batches of a training; a room a step.

May import: nothing.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
