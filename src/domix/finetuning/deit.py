"""DeiT's recipe for fine-tuning, as PLP uses it: optimiser, rates, mixing, images.

Rates go by epochs t: from `warmup_lr` up to the peak in `warmup_epochs`, then min + (peak - min)/2 (1 + cos(pi
t/epochs)), and `min_lr` for the `cooldown` epochs after that (timm's CosineLRScheduler).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor
from torch.utils.data import Dataset

from domix.encoders.preprocess import Preprocess
from domix.runtime.errors import ParameterError

if TYPE_CHECKING:
    from PIL import Image


class Labelled(Protocol):
    """RGB images and their classes, by place, as torchvision's ImageFolder or a list of pairs."""

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def __getitem__(self, place: int, /) -> tuple[Image.Image, int]:
        """Return an image and its class."""
        ...


@dataclass(frozen=True)
class FineTuning:
    """How an encoder is fine-tuned; the defaults are PLP's."""

    epochs: int = 100
    cooldown: int = 10  # epochs at the least rate that follow
    warmup_epochs: int = 5
    batch: int = 64  # images a step and device; even, for they are mixed in pairs
    lr: float = 5e-4  # for 512 images a step of all devices; scaled to as many as there are
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    weight_decay: float = 0.05  # not of biases and norms
    smoothing: float = 0.1
    mixup: float = 0.8
    cutmix: float = 1.0  # one of the two a batch, as often the one as the other
    repeats: int = 3  # views of an image that an epoch has, of a third of the images
    ema: float = 0.99996  # decay of the averaged weights a step; those are measured and kept
    frozen: float = 0.0  # share of the tower's weights, from those that read the image on, that stay as they are

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ParameterError: one is out of range.
        """
        if self.epochs < 1 or self.cooldown < 0:
            argument = "epochs" if self.epochs < 1 else "cooldown"
            raise ParameterError(
                f"{argument} must not be {getattr(self, argument)}: give one epoch or more", argument=argument
            )
        if self.lr <= 0:
            raise ParameterError(f"lr must be above 0, not {self.lr}", argument="lr")
        if self.batch < 2 or self.batch % 2:
            raise ParameterError(
                f"batch must be even, as images are mixed in pairs, not {self.batch}", argument="batch"
            )
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ParameterError(
                f"warmup_epochs must be at least 0 and below the {self.epochs} epochs, not {self.warmup_epochs}",
                argument="warmup_epochs",
            )
        if min(self.mixup, self.cutmix) < 0 or self.mixup + self.cutmix == 0 or not 0 <= self.smoothing < 1:
            raise ParameterError(
                f"mixup {self.mixup} and cutmix {self.cutmix} must not be below 0, one of them must be above, and"
                f" smoothing {self.smoothing} must be at least 0 and below 1",
                argument="mixup",
            )
        if not 0 <= self.ema < 1:
            raise ParameterError(f"ema must be at least 0 and below 1, not {self.ema}", argument="ema")
        if not 0 <= self.frozen < 1:
            raise ParameterError(f"frozen must be at least 0 and below 1, not {self.frozen}", argument="frozen")

    def peak(self, devices: int) -> float:
        """Return the greatest rate on so many devices."""
        return self.lr * self.batch * devices / 512


class TrainingImages(Dataset[tuple[Tensor, int]]):
    """Images as DeiT's training sees them: random crop, flip, RandAugment, erasing."""

    def __init__(self, images: Labelled, preprocess: Preprocess) -> None:
        """Prepare for a model that reads images as `preprocess` says."""
        from timm.data import create_transform

        self.images = images
        self.transform: Any = create_transform(
            preprocess.size,
            is_training=True,
            auto_augment="rand-m9-mstd0.5-inc1",  # in place of colour jitter
            interpolation="bicubic",
            re_prob=0.25,
            re_mode="pixel",
            mean=preprocess.mean,
            std=preprocess.std,
        )
        for operation in (each for step in self.transform.transforms for each in getattr(step, "ops", ())):
            if operation.name.startswith("Posterize"):
                operation.aug_fn = _posterised

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image float32 [3, H, W], another view of it each time, and its class."""
        image, label = self.images[index]
        return self.transform(image), label


def _posterised(image: Image.Image, bits: int, **kwargs: object) -> Image.Image:
    """Keep so many bits of every channel; timm also asks for none, which is black, and which Pillow 12 refuses."""
    from PIL import Image, ImageOps

    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)


class ValidationImages(Dataset[tuple[Tensor, int]]):
    """Images as the model reads them to be measured."""

    def __init__(self, images: Labelled, preprocess: Preprocess) -> None:
        """Cut images as `preprocess` says."""
        self.images, self.preprocess = images, preprocess

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return an image uint8 [3, H, W] and its class."""
        import torch

        image, label = self.images[index]
        return torch.tensor(self.preprocess.cut(image)).permute(2, 0, 1), label
