"""The parameters of trainings (moved to domix.train.settings)."""

from domix.train.settings import DECIDING, Recipe, Supervised, Train, Trainer, Validation

__all__ = ["DECIDING", "Recipe", "Supervised", "Train", "Trainer", "Validation"]
