"""The numbers of the report: merged over seeds, in words, for `dvc plots` and metrics.

May import: analyses, evaluate, report.load, runs, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
