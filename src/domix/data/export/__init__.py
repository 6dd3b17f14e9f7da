"""Exports of a mixture for other trainers: a table, webdataset shards, parquet.

May import: data.mixtures, data.sources, data.store, runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
