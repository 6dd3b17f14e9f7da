"""Fine-tuning a whole encoder with a new head by DeiT's recipe: PLP's strongest baseline, trained as it should be.

May import: encoders, model, runtime.
Must not import: open_clip, mlflow, dvc, matplotlib, pandas.
"""
