"""Controlled domain mixtures for CLIP: build them, train on them, evaluate and explain the result."""
