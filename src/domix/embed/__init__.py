"""Embedding: evaluation images and class prompts through trained weights, written to disk and read back.

May import: activations, data.classes, data.loading, data.mixtures, data.store, encoders, model, runs, runtime.
Must not import: lightning, mlflow, dvc, matplotlib.
"""
