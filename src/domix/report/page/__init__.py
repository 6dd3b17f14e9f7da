"""The page that a reader opens, its cards and drill-down, and the comparison of two experiments.

May import: analyses, data.archives, data.store, evaluate, figures, report.figures, report.load, report.tables,
runtime, settings, study.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
