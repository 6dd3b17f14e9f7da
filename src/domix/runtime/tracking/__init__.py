"""Records of runs: MLflow, TensorBoard, heartbeats.

May import: runtime.
Must not import: open_clip, lightning, dvc, matplotlib, pandas.
"""
