"""Fine-tuning a whole encoder under a linear head: by DeiT's recipe, as PLP's baseline, and by WiSE-FT's.

May import: data.loading, encoders, model, runtime, runtime.tracking, train.
Must not import: open_clip, mlflow, dvc, matplotlib.
"""
