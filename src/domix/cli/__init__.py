"""The command line `domix`: one module a command, imported when it is called.

May import: activations, analyses.ood, data, embed, encoders, evaluate, model, ood, project, report.load, report.page,
report.paper, report.tables, runtime, runtime.tracking, settings, signature, study, train, train.cost.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
