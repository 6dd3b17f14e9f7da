"""Evaluation: embeddings, zero-shot accuracy, uncertainty."""
