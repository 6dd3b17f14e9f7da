"""Commands on models: accuracy, robustness, concepts, how well one tells foreign images, signatures of one or of a zoo.

May import: activations, analyses.concepts, analyses.ood, analyses.pruning, analyses.sae, cli.detection, data, embed,
encoders, evaluate, figures, finetuning, model, ood, ood.scores, project, runtime, runtime.tracking, settings,
signature, study, zoo.
Must not import: open_clip, lightning, mlflow, dvc, matplotlib.
"""
