"""Processes that work for this one, and end when it does.

May import: nothing.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
