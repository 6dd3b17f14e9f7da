"""Commands on any one model: its accuracy, how well it tells foreign images, its signature, its concepts.

May import: activations, analyses.concepts, analyses.ood, analyses.sae, cli.detection, data, embed, encoders, evaluate,
model, ood, ood.scores, project, runtime, settings, signature, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
