"""Fine-tune an encoder: Lightning, timm's optimiser, rates, mixing and averaged weights.

PLP's code trains on uncropped images and picks the best epoch by the test set; here training images are augmented, and
the epoch is picked by a validation split.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from domix.encoders.preprocess import Preprocess
from domix.finetuning.deit import FineTuning, Labelled, TrainingImages, ValidationImages
from domix.model.checkpoint import save_tensors
from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler


@dataclass(frozen=True)
class FineTuned:
    """What came of a fine-tuning."""

    model: HeadedTower  # with the averaged weights of the chosen epoch
    epoch: int  # after how many, from 1; the first of the best
    accuracies: list[float]  # of the averaged weights on the validation split, after each epoch


class HeadedTower(nn.Module):
    """A tower under a new linear head."""

    def __init__(self, tower: nn.Module, width: int, classes: int) -> None:
        """Draw the head from a truncated normal distribution of deviation 0.02; its bias is 0."""
        super().__init__()
        self.tower, self.head = tower, nn.Linear(width, classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits [B, C] of images [B, 3, H, W]."""
        return self.head(self.tower(images))

    def no_weight_decay(self) -> set[str]:
        """Return the weights that do not decay beside biases and norms: those that timm's models name."""
        return {
            f"{path}.{name}"
            for path, module in self.named_modules()
            if path and callable(names := getattr(module, "no_weight_decay", None))
            for name in names()
        }


class FineTuningModule(lightning.LightningModule):
    """One epoch after the other."""

    def __init__(self, model: HeadedTower, recipe: FineTuning, preprocess: Preprocess) -> None:
        """Train `model`, whose averaged weights are measured after every epoch."""
        from timm.data import Mixup
        from timm.loss import SoftTargetCrossEntropy
        from timm.utils import ModelEmaV3

        super().__init__()
        self.model, self.recipe, self.preprocess = model, recipe, preprocess
        self.average = ModelEmaV3(model, decay=recipe.ema).requires_grad_(False)
        classes = model.head.out_features
        self.mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing, num_classes=classes)
        self.loss = SoftTargetCrossEntropy()
        self.schedule: Scheduler
        self.accuracies: list[float] = []
        self.best: dict[str, Tensor] = {}
        self._right = self._seen = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make AdamW, and the rates of its epochs."""
        from timm.optim import create_optimizer_v2
        from timm.scheduler.cosine_lr import CosineLRScheduler

        recipe = self.recipe
        peak = recipe.peak(self.trainer.world_size)
        optimiser = create_optimizer_v2(self.model, opt="adamw", lr=peak, weight_decay=recipe.weight_decay)
        self.schedule = CosineLRScheduler(
            optimiser,
            t_initial=recipe.epochs,
            lr_min=recipe.min_lr,
            warmup_t=recipe.warmup_epochs,
            warmup_lr_init=recipe.warmup_lr,
        )
        return optimiser

    def on_train_epoch_start(self) -> None:
        """Set the epoch's rate."""
        self.model.train()
        self.schedule.step(self.current_epoch)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of mixed images with their mixed, smoothed targets.

        Raises:
            DataError: it is not finite.
        """
        images, targets = self.mix(*batch)
        loss = self.loss(self.model(images), targets)
        if not torch.isfinite(loss):
            raise DataError(f"fine-tuning diverged in epoch {self.current_epoch + 1}: lower the learning rate")
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Move the averaged weights."""
        self.average.update(self.model)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Count what the averaged weights get right."""
        images, labels = batch
        logits = self.average(self.preprocess.normalise(images))
        self._right += int((logits.argmax(dim=1) == labels).sum())
        self._seen += len(labels)

    def on_validation_epoch_end(self) -> None:
        """Keep the averaged weights, if they are the best so far; every process has seen the whole split."""
        accuracy = self._right / self._seen
        if not self.accuracies or accuracy > max(self.accuracies):
            self.best = {name: tensor.cpu().clone() for name, tensor in self.average.module.state_dict().items()}
        self.accuracies.append(accuracy)
        self._right = self._seen = 0


def fine_tune(
    tower: nn.Module,
    train: Labelled,
    validation: Labelled,
    recipe: FineTuning,
    *,
    width: int,
    classes: int,
    preprocess: Preprocess,
    out: Path,
    accelerator: str = "cpu",
    devices: int = 1,
) -> FineTuned:
    """Fine-tune a tower with a new head, and write the chosen weights to `out` (safetensors) at the end.

    The draws of this process are as before afterwards. `load_weights(HeadedTower(tower, width, classes), out)` reads
    the weights again.

    Args:
        tower: images [B, 3, H, W] -> features [B, width], such as `open_backbone(...).split.tower`; it is trained.
        train: labelled images.
        validation: others, by which the epoch is chosen; never those that results are told of.
        recipe: how.
        width: of the features.
        classes: how many there are.
        preprocess: how the model reads images.
        out: file of the weights.
        accelerator: Lightning's name: cpu, gpu.
        devices: of it; the learning rate grows with their number.

    Raises:
        DataError: there are fewer training images than a batch, or none to choose by, or training diverged.
        DomixError: `out` cannot be written.
    """
    from timm.data.distributed_sampler import RepeatAugSampler

    if len(train) < recipe.batch * devices or not len(validation):
        raise DataError(
            f"there are {len(train)} training and {len(validation)} validation images: fine-tuning needs a batch of"
            f" {recipe.batch * devices} of the former, and some of the latter"
        )
    with seeded(recipe.seed):
        module = FineTuningModule(HeadedTower(tower, width, classes).train(), recipe, preprocess)
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=devices,
            precision=recipe.precision,  # ty: ignore[invalid-argument-type]
            max_epochs=recipe.epochs + recipe.cooldown,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
        sampler = RepeatAugSampler(
            train, num_replicas=trainer.world_size, rank=trainer.global_rank, num_repeats=recipe.repeats
        )
        batches = DataLoader(
            TrainingImages(train, preprocess), recipe.batch, sampler=sampler, num_workers=recipe.workers, drop_last=True
        )
        measured = DataLoader(ValidationImages(validation, preprocess), recipe.batch, num_workers=recipe.workers)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6.6 on torch 2.15
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
            warnings.filterwarnings("ignore", message=".*in eval mode at the start.*")  # averaged weights: so they are
            trainer.fit(module, batches, measured)
    module.model.load_state_dict(module.best)
    if trainer.is_global_zero:
        save_tensors(module.best, out)
    best = int(np.argmax(module.accuracies))
    return FineTuned(module.model.eval(), best + 1, module.accuracies)


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Draw what libraries draw from global generators (timm's augmentation, dropout) from a seed, within this block."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        lightning.seed_everything(seed, workers=True, verbose=False)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
