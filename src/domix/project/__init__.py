"""The project: params.yaml, working directory, environment, exit codes; what stages and commands share.

May import: data.classes, data.loading, data.mixtures, data.store, embed, runs, runtime, runtime.tracking,
settings, train.
Must not import: open_clip, lightning, dvc, matplotlib.
"""
