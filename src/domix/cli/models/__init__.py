"""Commands on models: accuracy, robustness, how well one tells foreign images, the signatures of one or of a zoo.

May import: activations, analyses.ood, analyses.pruning, analyses.sae, cli.detection, data, embed, encoders, evaluate,
figures, finetuning, model, ood, ood.scores, project, runtime, runtime.tracking, settings, signature, study, zoo.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
