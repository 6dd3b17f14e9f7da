"""A zoo: many models and groups of models in one table, and whether their signatures go with their robustness.

May import: analyses, analyses.concepts, analyses.pruning, analyses.run_cka, evaluate, figures, ood, runtime, signature.
Must not import: torch, open_clip, lightning, mlflow, dvc.
"""
