"""OOD detection: whether scores tell images of the known classes from foreign ones, on plain arrays.

May import: evaluate, runtime.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
