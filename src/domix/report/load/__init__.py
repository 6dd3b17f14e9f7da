"""What the report reads: the tables of the runs that were asked for, as one value.

May import: analyses, data.mixtures, evaluate, runtime, study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
