"""Analyses that explain an evaluation: each a sub-package that keeps to contract.py, found by registry.py.

May import embed, evaluate, activations, encoders, model, data, figures, runtime, and study; never train, report or cli.
Another analysis' folder is off limits: what two of them share lies beside the folders, as probe.py and sampling.py do.
"""
