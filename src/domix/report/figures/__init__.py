"""The report's figures: plain data in, drawings of domix.figures out.

May import: evaluate, figures, report.load, report.tables, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc.
"""
