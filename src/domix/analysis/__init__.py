"""Analyses that explain an evaluation, from cached embeddings."""
