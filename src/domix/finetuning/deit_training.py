"""Fine-tune an encoder: Lightning, timm's optimiser, rates, mixing and averaged weights.

PLP's code trains on uncropped images and picks the best epoch by the test set; here training images are augmented, and
the epoch is picked by a validation split.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from domix.encoders.classifiers import TOWER, HeadedTower
from domix.encoders.preprocess import Preprocess
from domix.finetuning.deit import FineTuning, Labelled, TrainingImages, ValidationImages
from domix.finetuning.wise_ft import ALONE
from domix.model.checkpoint import CONFIG, WEIGHTS, save_tensors
from domix.runtime.errors import DataError, DomixError, Interrupted
from domix.runtime.files import atomic_folder, sha256_file, write_json, write_text
from domix.runtime.tables import as_csv
from domix.train.failures import EXHAUSTED
from domix.train.machine import Machine, check_processes, choose
from domix.train.settings import Trainer

if TYPE_CHECKING:
    from timm.scheduler.scheduler import Scheduler

Row = Mapping[str, float]  # an epoch: its number from 1, learning rate, mean loss, accuracy on the validation split


@dataclass(frozen=True)
class TowerStart:
    """What a fine-tuning begins with, and all that its folder will say of it.

    Attributes:
        tower: images [B, 3, H, W] -> features [B, d], such as `open_backbone(...).split.tower`; it is trained itself.
        classes: names of the outputs of its new head.
        preprocess: how it reads images.
        built_from: what it is built from again, such as `open_backbone(...).built_from`.
        about: whose it is, as JSON: the digest of its weights above all.
    """

    tower: nn.Module
    classes: Sequence[str]
    preprocess: Preprocess
    built_from: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FineTuned:
    """What came of a fine-tuning."""

    model: HeadedTower  # with the averaged weights of the chosen epoch
    epoch: int  # after how many, from 1; the first of the best
    log: list[Row]
    main: bool  # whether this process is the first of several, which has written the folder

    @property
    def accuracies(self) -> list[float]:
        """Of the averaged weights on the validation split, after each epoch."""
        return [row["accuracy"] for row in self.log]


class FineTuningModule(lightning.LightningModule):
    """One epoch after the other."""

    def __init__(self, model: HeadedTower, recipe: FineTuning, preprocess: Preprocess) -> None:
        """Train `model`, whose averaged weights are measured after every epoch."""
        from timm.data import Mixup
        from timm.loss import SoftTargetCrossEntropy
        from timm.utils import ModelEmaV3

        super().__init__()
        freeze(model.visual, recipe.frozen)
        self.model, self.recipe, self.preprocess = model, recipe, preprocess
        self.report: Callable[[Row], None] = lambda row: None
        self.average = ModelEmaV3(model, decay=recipe.ema).requires_grad_(False)
        classes = model.head.out_features
        self.mix = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing, num_classes=classes)
        self.loss = SoftTargetCrossEntropy()
        self.schedule: Scheduler
        self.rate = 0.0  # of this epoch
        self.log_rows: list[Row] = []
        self.best: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []
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
        self.rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of mixed images with their mixed, smoothed targets.

        Raises:
            DataError: it is not finite.
        """
        images, targets = self.mix(*batch)
        loss = self.loss(self.model(images), targets)
        if not torch.isfinite(loss):
            raise DataError(f"fine-tuning diverged in epoch {self.current_epoch + 1}: lower the learning rate")
        self._losses.append(loss.detach())
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
        if accuracy > max((row["accuracy"] for row in self.log_rows), default=-1.0):
            self.best = {name: tensor.cpu().clone() for name, tensor in self.average.module.state_dict().items()}
        row = {
            "epoch": len(self.log_rows) + 1,
            "lr": self.rate,
            "loss": float(torch.stack(self._losses).mean()),
            "accuracy": accuracy,
        }
        self.log_rows.append(row)
        self.report(row)
        self._losses.clear()
        self._right = self._seen = 0


class ProgressBar(lightning.Callback):
    """Counts steps on stderr, where that is a terminal."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Show the bar."""
        from tqdm import tqdm

        total = int(trainer.num_training_batches) * (trainer.max_epochs or 0)
        self._bar = tqdm(total=total, unit=" steps", file=sys.stderr, leave=False, disable=None)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move it."""
        self._bar.update()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Take it away."""
        if (bar := getattr(self, "_bar", None)) is not None:
            bar.close()


def fine_tune(
    start: TowerStart,
    train: Labelled,
    validation: Labelled,
    recipe: FineTuning,
    *,
    out: Path,
    seed: int = 42,
    trainer: Trainer = ALONE,
    about: Mapping[str, Any] | None = None,
    report: Callable[[Row], None] = lambda _: None,
    progress: bool = False,
) -> FineTuned:
    """Fine-tune a tower with a new head, and write the folder `out`, which must not be there, whole or not at all.

    The draws of this process are as before afterwards. `load_any_classifier(out)` reads the folder again, where the
    start says what its tower is built from.

    Args:
        start: the tower, and what is known of it.
        train: labelled images.
        validation: others, by which the epoch is chosen; never those that results are told of.
        recipe: how.
        out: the model folder.
        seed: of the head, of augmentation and of mixing.
        trainer: how the machine does it; the learning rate grows with the number of its devices.
        about: more for config.json.
        report: is told each epoch, in the first of several processes.
        progress: show a bar on stderr, where that is a terminal.

    Raises:
        DataError: there are fewer training images than a batch, or none to choose by; the tower gives no vectors; or
            training diverged.
        Interrupted: a signal came; nothing is written.
        DomixError: memory does not suffice, or `out` cannot be written.
    """
    machine = choose(trainer)
    check_processes(machine)
    if len(train) < recipe.batch * machine.processes or not len(validation):
        raise DataError(
            f"there are {len(train)} training and {len(validation)} validation images: fine-tuning needs a batch of"
            f" {recipe.batch * machine.processes} of the former, and some of the latter"
        )
    width = width_of(start)
    with seeded(seed):
        model = HeadedTower(start.tower, width, len(start.classes)).train()
        module = FineTuningModule(model, recipe, start.preprocess)
        main = _fit(module, train, validation, machine, trainer, report=report, progress=progress)
    if len(module.log_rows) < recipe.epochs + recipe.cooldown:
        raise Interrupted(f"fine-tuning ended after epoch {len(module.log_rows)}, and nothing is kept: run it again")
    if not all(tensor.isfinite().all() for tensor in module.best.values()):
        raise DataError("fine-tuning diverged, the chosen weights are not finite: lower the learning rate")
    model.load_state_dict(module.best)
    best = int(np.argmax([row["accuracy"] for row in module.log_rows])) + 1
    found = FineTuned(model.eval(), best, module.log_rows, main)
    if main:
        told = {"recipe": {"name": "deit", **asdict(recipe)}, "seed": seed, "epoch": best}
        _write(out, start, width, found, told | dict(about or {}))
    return found


def width_of(start: TowerStart) -> int:
    """Return the number of a tower's features, by a pass of an empty image.

    Raises:
        DataError: it does not give a vector an image.
    """
    training, device = start.tower.training, next(start.tower.parameters()).device
    with torch.inference_mode():
        shape = start.tower.eval()(torch.zeros(1, 3, *start.preprocess.size, device=device)).shape
    start.tower.train(training)
    if len(shape) != 2:
        raise DataError(f"the tower gives {tuple(shape)} for an image, no vector: a head cannot be put on it")
    return shape[1]


def freeze(tower: nn.Module, share: float) -> None:
    """Keep the first parameters of a tower as they are, in its own order: up to `share` of all their numbers."""
    budget = share * sum(parameter.numel() for parameter in tower.parameters())
    for parameter in tower.parameters():
        budget -= parameter.numel()
        if budget < 0:
            return
        parameter.requires_grad_(False)


def _fit(
    module: FineTuningModule,
    train: Labelled,
    validation: Labelled,
    machine: Machine,
    trainer: Trainer,
    *,
    report: Callable[[Row], None],
    progress: bool,
) -> bool:
    """Train, and tell whether this process is the first one, which writes."""
    from timm.data.distributed_sampler import RepeatAugSampler

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it greets and advertises
    recipe, size = module.recipe, module.recipe.batch
    if machine.threads:
        torch.set_num_threads(machine.threads)
    runner = lightning.Trainer(
        accelerator=machine.accelerator,
        devices=machine.devices,
        num_nodes=machine.nodes,
        precision=machine.precision,
        max_epochs=recipe.epochs + recipe.cooldown,
        callbacks=[ProgressBar()] if progress else [],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    if runner.is_global_zero:
        module.report = report
    sampler = RepeatAugSampler(
        train, num_replicas=runner.world_size, rank=runner.global_rank, num_repeats=recipe.repeats
    )
    images = TrainingImages(train, module.preprocess)
    workers = trainer.workers
    if not workers and machine.accelerator == "gpu":
        workers = max(1, (os.cpu_count() or 1) // machine.devices)
    batches = DataLoader(images, size, sampler=sampler, num_workers=workers, drop_last=True)
    measured = DataLoader(ValidationImages(validation, module.preprocess), size, num_workers=workers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning 2.6.6 on torch 2.15
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        warnings.filterwarnings("ignore", message=".*in eval mode at the start.*")  # averaged weights: so they are
        try:
            runner.fit(module, batches, measured)
        except BaseException as error:
            if runner.strategy.launcher is not None:  # whose processes would wait for this one
                runner.strategy.launcher.kill(signal.SIGKILL)
            if isinstance(error, RuntimeError) and any(words in str(error) for words in EXHAUSTED):
                raise DomixError(f"the memory does not hold {size} images a step: lower the batch") from error
            raise
    return runner.is_global_zero


def _write(out: Path, start: TowerStart, width: int, found: FineTuned, about: Mapping[str, Any]) -> None:
    with atomic_folder(out) as folder:
        weights = folder / WEIGHTS
        save_tensors(found.model.state_dict(), weights)
        size = start.preprocess.size[0]
        config = {
            "name": "deit",
            "encoder": {TOWER: dict(start.built_from), "width": width, "image_size": size},
            "classes": list(start.classes),
            "first_class": 0,
            "preprocess": asdict(start.preprocess),
            "start": dict(start.about),
        }
        write_json(folder / CONFIG, config | dict(about))
        write_text(folder / "log.csv", as_csv(pd.DataFrame(found.log)))
        best = found.accuracies[found.epoch - 1]
        write_json(
            folder / "done.json", {"epoch": found.epoch, "accuracy": best, "weights_sha256": sha256_file(weights)}
        )


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
