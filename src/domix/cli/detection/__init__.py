"""What `domix ood` reads and writes: sets of images, packed or in folders of the user's, and tables.

May import: analyses.ood, data, embed, ood, project, runtime, settings.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
