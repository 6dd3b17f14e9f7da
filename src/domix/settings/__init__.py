"""Parameters: every part's settings as one, read from the text of a params.yaml, and completed with new keys.

May import: analyses, data, embed, evaluate, model, report, runtime, train. Must not import: torch, pandas, numpy.
"""
