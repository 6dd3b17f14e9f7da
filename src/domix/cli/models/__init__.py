"""Commands on any one model: its accuracy, how well it tells foreign images, its signature.

May import: activations, analyses.ood, analyses.sae, cli.detection, data, embed, encoders, evaluate, figures,
finetuning, model, ood, ood.scores, project, runtime, runtime.tracking, settings, signature, study.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
