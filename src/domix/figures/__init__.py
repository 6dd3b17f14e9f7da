"""Figures: one look, and each figure drawn once, for the page and for print.

May import: nothing.
Must not import: torch, open_clip, lightning, mlflow, dvc.
"""
