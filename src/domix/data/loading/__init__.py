"""Loading: the samples of a mixture decoded, augmented and batched, wherever they lie.

May import: data.mixtures, data.store, runtime, runtime.processes.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
