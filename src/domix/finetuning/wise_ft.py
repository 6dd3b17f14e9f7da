"""Fine-tuning a CLIP model end to end from its zero-shot classifier, by the recipe of WiSE-FT (Wortsman et al. 2022).

10 epochs of batches of 256, AdamW at 3e-5 with a weight decay of 0.1 on every weight, linear warm-up in 500 steps and
half a cosine down to 0, gradients clipped at norm 1, cross-entropy, images randomly cropped as CLIP's training does.
The last step's weights are the result; those before the first are kept beside them, for interpolation.

A fine-tuning is a training like any other (domix.train): exact resumption, log, one folder at the end.

Shapes: N images, K classes, B batch.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from pydantic import Field
from torch import Tensor

from domix.data.loading.augment import CLIP_MEAN, CLIP_STD
from domix.encoders.preprocess import Preprocess
from domix.model.zero_shot_classifier import KIND, ZeroShotClassifier
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.tracking.tracker import NullTracker, Tracker
from domix.train.fit import fit
from domix.train.job import Job
from domix.train.schedule import WarmupCosine, warmup_steps
from domix.train.settings import Recipe, Trainer
from domix.train.supervised_module import SupervisedModule

if TYPE_CHECKING:
    from domix.data.loading.images import ImageSet
    from domix.data.loading.loader import Batch

START = "checkpoints/epoch_000.safetensors"  # in a fine-tuned folder: the zero-shot classifier that it began as


class WiseFt(Recipe):
    """WiSE-FT's recipe; the defaults are its own."""

    samples: int | None = Field(None, gt=0, description="images seen in all; null: `epochs` decides")
    epochs: int | None = Field(10, gt=0, description="passes over the images; null: `samples` decides")
    batch: int = Field(256, gt=0, description="images an optimiser step")
    accumulate: int = Field(1, gt=0, description="parts in which a batch is computed: less memory, more time")
    bn_group: int | None = Field(None, gt=0, description="images of batch norm's statistics; null: a part of a batch")
    window: int | None = Field(None, gt=0, description="shards that are shuffled together; null: all")
    drop_last: bool = Field(False, description="end each epoch with its last whole batch")
    lr: float = Field(3e-5, gt=0, description="peak learning rate")
    warmup: int | float = Field(500, ge=0, description="linear warm-up: steps, or a share of all steps if below 1")
    weight_decay: float = Field(0.1, ge=0, description="weight decay, of every weight")
    clip_grad: float | None = Field(1.0, gt=0, description="largest norm of the gradient; null: no clipping")
    crop_scale: list[float] = Field([0.9, 1.0], description="random resized crop: share of the image's area")
    crop_ratio: list[float] = Field([3 / 4, 4 / 3], description="random resized crop: aspect ratio")
    hflip: float = Field(0.0, ge=0, le=1, description="probability that an image is flipped")
    checkpoints: list[int] = Field([0], description="epochs after which weights are kept; 0, the start, among them")


ALONE = Trainer(
    accelerator="auto",
    devices=1,
    nodes=1,
    strategy="auto",
    precision="auto",
    tf32=True,
    channels_last=True,
    compile=False,
    fused=True,
    grad_checkpointing=False,
    deterministic=True,
    loader="auto",
    workers=0,
    pin_memory=True,
    decode="cpu",
    shards={},
    threads=0,
    save_every_s=60,
    keep_states=2,
    log_every=10,
)
"""How a machine computes that has one device: what `fine_tune` does where it is not told otherwise."""


@dataclass(frozen=True)
class Start:
    """The zero-shot classifier that a fine-tuning begins with, and all that its folder will say of it.

    Attributes:
        model: the classifier; it is left as it is.
        classes: names of its K outputs.
        preprocess: how it reads images, square ones.
        config: open_clip's, of the whole CLIP model.
        about: whose it is, as JSON: the digest of its weights above all.
    """

    model: ZeroShotClassifier
    classes: Sequence[str]
    preprocess: Preprocess
    config: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class WiseFtTask:
    """Images find their class, from a zero-shot classifier on."""

    start: Start
    labels: Tensor
    recipe: WiseFt
    name: str = "wise-ft"
    section: str = "finetune"

    @property
    def size(self) -> int:
        """Return the side in pixels of the images that the model reads."""
        return self.start.preprocess.size[0]

    def build(self, seed: int) -> ZeroShotClassifier:
        """Return a copy of the start; no seed decides anything about it."""
        return copy.deepcopy(self.start.model).requires_grad_().train()

    def targets(self, model: Any) -> Tensor:
        """Return each image's output, int64 [N]."""
        return self.labels

    def schedule(self, job: Job) -> WarmupCosine:
        """Return the learning rate by step."""
        return WarmupCosine(self.recipe.lr, warmup_steps(self.recipe.warmup, job.total), job.total)

    def module(self, job: Job, model: Any) -> WiseFtModule:
        """Return the training step."""
        return WiseFtModule(job, model, cast(Any, self))

    def describe(self) -> dict[str, Any]:
        """Return what config.json says about the model; see domix.model.zero_shot_classifier."""
        start = self.start
        return {
            "name": self.name,
            "encoder": {KIND: start.config, "image_size": self.size},
            "classes": list(start.classes),
            "first_class": 0,
            "preprocess": asdict(start.preprocess),
            "start": start.about,
        }


class WiseFtModule(SupervisedModule):
    """A classifier's step, with WiSE-FT's optimiser, on images normalised as the model reads them."""

    def make_optimizer(self) -> Any:
        """Make AdamW with PyTorch's betas and epsilon; biases, norms and the head decay, too."""
        recipe = self.task.recipe
        fused = self.job.trainer.fused
        return torch.optim.AdamW(self.model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, fused=fused)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Crop the images, and normalise them by the model's own mean and deviation, where these are not CLIP's."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        preprocess = cast(WiseFtTask, cast(Any, self.task)).start.preprocess
        if (preprocess.mean, preprocess.std) == (CLIP_MEAN, CLIP_STD):
            return batch
        images: Any = batch.images
        mean, std, clip_mean, clip_std = (
            images.new_tensor(values)[:, None, None]
            for values in (preprocess.mean, preprocess.std, CLIP_MEAN, CLIP_STD)
        )
        return batch._replace(images=(images * clip_std + clip_mean - mean) / std)


def fine_tune(
    start: Start,
    images: ImageSet,
    labels: Tensor,
    recipe: WiseFt,
    *,
    out: Path,
    resume: Path,
    seed: int = 0,
    trainer: Trainer = ALONE,
    about: dict[str, Any] | None = None,
    open_tracker: Callable[[], Tracker] = NullTracker,
    progress: bool = False,
) -> None:
    """Fine-tune a zero-shot classifier, and write its folder `out`, which must not be there yet, whole or not at all.

    `load_any_classifier(out)` reads it again; START in it are the weights before the first step.

    Args:
        start: the classifier.
        images: for training; `Images(sizes, buffer)` of plain tensors.
        labels: output of each image, int64 [N].
        recipe: how.
        out: the model folder.
        resume: folder of saved states, of this fine-tuning alone; a call that was cut short goes on from there.
        seed: of the order of images and of their crops.
        trainer: how the machine does it.
        about: more for config.json.
        open_tracker: makes what is told the log's rows.
        progress: show a bar on stderr, where that is a terminal.

    Raises:
        DataError: labels and images differ in number, a label is none of the head's, or a class has no image; or the
            model reads images that are not square.
        ParameterError: there are fewer images than a batch, or epoch 0 is not among the checkpoints.
        Interrupted: a signal came; the state is saved.
        DomixError: training diverged, or `out` cannot be written.
    """
    check_labels(labels, len(images), start.classes)
    height, width = start.preprocess.size
    if height != width:
        raise DataError(f"the model reads images of {height} x {width} pixels: fine-tuning crops square ones alone")
    if recipe.batch > len(images):
        raise ParameterError(f"batch is {recipe.batch}, but there are {len(images)} images: lower it", argument="batch")
    if 0 not in recipe.checkpoints:
        raise ParameterError("checkpoints must hold 0, the start, for interpolation", argument="checkpoints")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it greets and advertises
    task = WiseFtTask(start=start, labels=labels, recipe=recipe)
    job = Job(task=task, recipe=recipe, trainer=trainer, seed=seed, images=images)
    fit(job, out=out, resume=resume, about=about or {}, open_tracker=open_tracker, progress=progress)


def check_labels(labels: Tensor, images: int, classes: Sequence[str]) -> None:
    """Check the labels of a fine-tuning: every image has one of the head's, and every class an image.

    Raises:
        DataError: they are not so.
    """
    if len(labels) != images:
        raise DataError(f"there are {len(labels)} labels for {images} images: give one an image")
    if images == 0:
        raise DataError("there is no image to fine-tune on: none of them shows a class of the head")
    if (outside := (labels < 0) | (labels >= len(classes))).any():
        image = int(outside.int().argmax())
        raise DataError(
            f"image {image} has the label {int(labels[image])}, but the head has {len(classes)} classes, numbered from"
            " 0: leave it out, or take a head with its class"
        )
    missing = [name for name, count in zip(classes, labels.bincount(minlength=len(classes)), strict=True) if not count]
    if missing:
        raise DataError(
            f"there is no training image of {missing[0]} ({len(missing)} such classes): fine-tuning would only push it"
            " away, so give it images, or leave it out of the head"
        )
