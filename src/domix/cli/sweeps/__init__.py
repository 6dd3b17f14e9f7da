"""What `domix sweep` is made of: the plan, working copies, slots, cluster files, the live table.

May import: analyses, cli.pipeline, project, runs, runtime, runtime.tracking, settings, train.
Must not import: open_clip, lightning, mlflow, matplotlib, pandas.
"""
