"""Activations: one pass of an encoder over any images, what is gathered on the way, and a store larger than memory."""
