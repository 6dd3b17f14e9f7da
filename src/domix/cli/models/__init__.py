"""Commands on any one model: its accuracy, how well it tells foreign images, its signature.

May import: activations, analyses.ood, analyses.sae, cli.detection, data, embed, encoders, evaluate, figures, model,
ood, ood.scores, project, runtime, settings, signature, study, zoo.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
