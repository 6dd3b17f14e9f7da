"""The report: what a study found, as tables, figures, a page, and figures for print.

May import: runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
