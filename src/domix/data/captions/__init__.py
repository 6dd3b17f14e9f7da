"""Captions of samples: their own, or sentences made of class and domain."""
