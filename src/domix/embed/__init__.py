"""Embedding: evaluation images and class prompts through trained weights, written to disk."""
