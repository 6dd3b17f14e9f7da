"""Models: building, loss, weights on disk."""
