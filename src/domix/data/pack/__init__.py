"""Packing: every image decoded once, the bad rejected, shards and the index written.

May import: data.sources, data.store, runtime, runtime.processes.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
