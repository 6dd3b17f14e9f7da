"""Activations: one pass of an encoder over any images, what is gathered on the way, and a store larger than memory.

May import: encoders, runtime.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
