"""Data: sources, shards, captions, mixtures, loading."""
