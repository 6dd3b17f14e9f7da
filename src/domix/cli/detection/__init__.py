"""What `domix ood` is made of: sets of images, packed or in folders of the user's; heads and scores; tables.

May import: analyses.ood, data, embed, ood, ood.probes, ood.scores, project, runtime, settings.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
