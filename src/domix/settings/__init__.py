"""The parameters of the pipeline: each part's settings collected, read and completed.

May import: analyses, data.captions, data.fetch, data.mixtures, data.pack, embed, evaluate, model, report, runtime,
runtime.tracking, train.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
