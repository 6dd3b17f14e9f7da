"""Encoders: models as functions from images to outputs, what they expect of images, and where they can be read.

May import: data.loading, model, runtime.
Must not import: lightning, dvc, matplotlib.
"""
