"""Files of weights that others made: read without running any code of theirs.

May import: runtime.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
