"""One pass of an image tower over pictures: their embeddings, and the class means of every layer.

Shapes: B batch, N pictures, D embedding, G domains, K classes, C channels of a layer, S the side of the pictures.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from domix.data.augment import CLIP_MEAN, CLIP_STD, normalise
from domix.model.layers import channels_last, layer_modules, pool_positions
from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from domix.model.clip import Clip
    from domix.model.supervised import Classifier

log = logging.getLogger(__name__)

DIVERGED = "its weights are damaged, or its training diverged: then lower the learning rate and train again"


@dataclass(frozen=True)
class Reading:
    """How a model reads pictures: central squares of `size` pixels, normalised."""

    size: int
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __str__(self) -> str:
        """Say it in words."""
        clip = (self.mean, self.std) == (CLIP_MEAN, CLIP_STD)
        numbers = "CLIP's mean and deviation" if clip else f"mean {self.mean} and deviation {self.std}"
        return f"central square, antialiased bicubic to {self.size} x {self.size}, {numbers}"


class LayerMeans:
    """Collects the mean activation of every layer over the pictures of each cell, by forward hooks, in float64.

    Used as a context: hooks are on inside it. Before each pass of the tower, `expect` says how many pictures come.
    """

    def __init__(self, visual: nn.Module, cells: NDArray[np.int64], *, domains: int, classes: int) -> None:
        """Prepare for pictures in the cells [N], each domain * classes + label, in this order."""
        self.modules = layer_modules(visual)
        self.nhwc = channels_last(visual)
        self.shape = (domains, classes)
        self.counts = np.bincount(cells, minlength=domains * classes)
        self.sums: dict[str, Tensor] = {}
        self._cells = torch.from_numpy(np.ascontiguousarray(cells))
        self._now, self._next = self._cells[:0], self._cells
        self._handles: list[Any] = []

    def __enter__(self) -> LayerMeans:
        for name, module in self.modules.items():
            self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def expect(self, count: int) -> None:
        """Say how many of the pictures come in the next batch."""
        self._now, self._next = self._next[:count], self._next[count:]

    def _hook(self, name: str) -> Any:
        def add(module: nn.Module, inputs: object, output: object) -> None:
            pooled_BC = pool_positions(output, nhwc=self.nhwc).cpu().double()
            if name not in self.sums:
                self.sums[name] = pooled_BC.new_zeros((len(self.counts), pooled_BC.shape[1]))
            self.sums[name].index_add_(0, self._now, pooled_BC)

        return add

    def means(self) -> dict[str, NDArray[np.float32]]:
        """Return the class means float32 [G, K, C] by layer, in order of depth; NaN where a cell has no picture."""
        counts = self.counts[:, None]
        result = {}
        for name in self.modules:
            if name not in self.sums:  # a block that this configuration never runs
                log.warning("layer %s of the image tower is never computed; it is left out", name)
                continue
            sums = self.sums[name].numpy()
            mean = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
            result[name] = mean.reshape(*self.shape, -1).astype(np.float32)
        return result


def embed_pictures(
    model: Clip, pictures: Iterable[Tensor], reading: Reading, *, means: LayerMeans | None = None, device: str = "cpu"
) -> Iterator[NDArray[np.float32]]:
    """Yield the L2-normalised embeddings [B, D] of pictures uint8 [B, 3, S, S], batch by batch.

    `means`, opened, collects the layers' activations on the way.

    Raises:
        DataError: an embedding is not finite.
    """
    for inputs in _inputs(model, pictures, reading, device):
        if means is not None:
            means.expect(len(inputs))
        with torch.inference_mode():
            image = F.normalize(model.encode_image(inputs).float(), dim=-1).cpu().numpy()
        if not np.isfinite(image).all():
            raise DataError(f"the model gives picture embeddings that are not finite: {DIVERGED}")
        yield image


def score_pictures(
    model: Classifier, pictures: Iterable[Tensor], reading: Reading, *, outputs: Sequence[int], device: str = "cpu"
) -> Iterator[NDArray[np.float32]]:
    """Yield a classifier's logits [B, K] of some `outputs` for pictures uint8 [B, 3, S, S], batch by batch.

    Raises:
        DataError: a logit is not finite.
    """
    for inputs in _inputs(model, pictures, reading, device):
        with torch.inference_mode():
            scores = model(inputs).float().cpu().numpy()[:, list(outputs)]
        if not np.isfinite(scores).all():
            raise DataError(f"the classifier gives logits that are not finite: {DIVERGED}")
        yield scores


def _inputs(model: nn.Module, pictures: Iterable[Tensor], reading: Reading, device: str) -> Iterator[Tensor]:
    """Put the model on its device, ready to evaluate, and yield what it reads."""
    model.to(memory_format=torch.channels_last).to(device).eval()  # the faster layout for convolutions
    for part in pictures:
        with torch.inference_mode():
            inputs = normalise(part.to(device).float(), reading.mean, reading.std)
        yield inputs
