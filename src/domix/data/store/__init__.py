"""Packed images: decoding, the shards that hold them, and the index that says where each lies.

May import: runtime.
Must not import: torch, open_clip, lightning, mlflow, dvc, matplotlib.
"""
