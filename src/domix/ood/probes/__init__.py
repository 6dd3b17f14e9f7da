"""Labels and linear probes on frozen features: PLP's pseudo-labels, its probe by its schedule, logistic regression.

May import: activations, data.classes, ood, runtime.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib, pandas.
"""
