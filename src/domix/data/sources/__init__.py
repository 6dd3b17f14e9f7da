"""Data sets, one module each: which files they consist of, and which samples these hold."""
