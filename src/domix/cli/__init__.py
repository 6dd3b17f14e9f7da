"""The command line `domix`: one module a command, imported when it is called.

May import: data, embed, evaluate, model, project, report.load, report.page, report.paper, report.tables, runtime,
runtime.tracking, settings, study, train, train.cost.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
