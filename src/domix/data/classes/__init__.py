"""Classes: how their names are read, ImageNet's, and the lists of test classes that Domix ships.

May import: runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
