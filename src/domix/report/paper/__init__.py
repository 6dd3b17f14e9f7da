"""The study view: several test domains' results as figures and tables for print.

May import: data.mixtures, evaluate, figures, report.figures, report.tables, runs, runtime, study.
Must not import: torch, open_clip, lightning, mlflow, dvc.
"""
