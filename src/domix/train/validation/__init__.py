"""Measurements on test images while a model trains.

May import: data.classes, data.loading, data.mixtures, data.store, encoders, evaluate, model, runtime, train.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
