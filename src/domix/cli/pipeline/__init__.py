"""How commands run DVC: one at a time in a repository, with a dvc.lock that survives kills.

May import: project, runtime.
Must not import: open_clip, lightning, mlflow, matplotlib, pandas.
"""
