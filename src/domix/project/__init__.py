"""The project: params.yaml, working directory, environment, exit codes; what stages and commands share.

May import: analyses, data.classes, data.loading, data.mixtures, data.store, embed, runs, runtime, runtime.tracking,
settings, study, train.
Must not import: open_clip, lightning, dvc, matplotlib.
"""
