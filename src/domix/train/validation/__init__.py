"""Measurements on test images while a model trains."""
