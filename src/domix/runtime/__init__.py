"""What everything else stands on: errors, files, tables, seeds, caches keyed by code, progress.

May import: nothing.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
