"""Where commands find results: this workspace, a sweep's copies, revisions and experiments of DVC.

May import: project, report.paper, runtime.
Must not import: torch, open_clip, lightning, mlflow, matplotlib, pandas.
"""
