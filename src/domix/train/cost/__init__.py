"""What a training costs: operations, memory, time.

May import: model, runtime.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
