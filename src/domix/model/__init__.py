"""Models: building, loss, tokens, weights on disk.

May import: runtime.
Must not import: lightning, mlflow, dvc, matplotlib, pandas.
"""
