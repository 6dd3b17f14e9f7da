"""The linear probe of PLP: one layer on standardised features, by its code's schedule, batches and optimiser.

    step i of T, w = int(0.1 T):   lr i / (w - 1) while i < w (w = 1: 0), then lr/2 (1 + cos(pi (i - w) / (T - w)))

So the first step changes nothing but Adam's memory, and the peak comes twice. Its code means to scale the rate by
batch / 256, but its schedule overwrites that: `scale_lr` does what it means to. Weight decay is Adam's own (L2, added
to the gradient) and covers the bias.

Shapes: N images, d features, C classes, B batch, T steps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from domix.activations.store import SHARD
from domix.ood.blocks import Rows, blocks, check_labels, shape_of, take
from domix.ood.gaussians import standardisation
from domix.ood.probes.rows import loader_order, shard_order
from domix.runtime.ahead import ahead
from domix.runtime.errors import DataError, ParameterError

log = logging.getLogger(__name__)

DEAD = 1e-7  # a dimension that varies by no more than this share of its mean varies by float32's rounding alone
CACHED = 32  # rows that are prepared at a time: they stay in a core's cache between operations

Arrays = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Recipe:
    """How a probe is trained; the defaults are those of PLP's code, with the length that its scripts ask for."""

    epochs: int | None = 100
    steps: int | None = None  # instead of epochs
    batch: int = 256  # its scripts: 8192 for ImageNet
    lr: float = 1e-3
    weight_decay: float = 1e-3
    warmup: float = 0.1  # of all steps
    optimiser: Literal["adam", "adamw", "sgd"] = "adam"  # sgd: Nesterov momentum 0.9
    scale_lr: bool = False  # by batch / 256
    standardise: bool = True
    mixed: int | None = None  # shards that are shuffled as one; None: all rows, as by PyTorch's loader
    seed: int = 42

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ParameterError: one is out of range.
        """
        if (self.epochs is None) == (self.steps is None):
            raise ParameterError("a probe is trained for epochs or for steps: give one of them", argument="epochs")
        for name in ("epochs", "steps", "batch", "lr", "mixed"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ParameterError(f"{name} must be above 0, not {value}", argument=name)
        if not 0 <= self.warmup < 1:
            raise ParameterError(f"warmup must be at least 0 and below 1, not {self.warmup}", argument="warmup")

    def length(self, n: int) -> int:
        """Return the steps on `n` images; the last batch of an epoch may be smaller."""
        return self.steps or math.ceil(n / self.batch) * (self.epochs or 0)


IMAGENET = Recipe(batch=8192)
IN21K = Recipe(batch=1024, standardise=False)  # PLP's baseline: features of ImageNet-21k models under a probe


@dataclass(frozen=True)
class LinearProbe:
    """A layer, and how its input is standardised: W (x - mean) / std + b."""

    weight: NDArray[np.float32]  # [C, d]
    bias: NDArray[np.float32]  # [C]
    mean: NDArray[np.float32]  # [d]
    std: NDArray[np.float32]  # [d]

    def logits(self, features: Rows) -> NDArray[np.float32]:
        """Return the logits of features [N, d]: float32 [N, C].

        Raises:
            DataError: the features have another width, or are not finite.
        """
        return np.concatenate(list(self._blocks(features)))

    def accuracy(self, features: Rows, labels: NDArray[np.int64]) -> float:
        """Return the share of images [N, d] whose greatest logit is at their true label [N].

        Raises:
            DataError: the features have another width, are not finite, or are not as many as labels.
        """
        labels = check_labels(labels, shape_of(features, "the features")[0], "the labels")
        taken = np.concatenate([block.argmax(axis=1) for block in self._blocks(features)])
        return float(np.mean(taken == labels))

    def _blocks(self, features: Rows) -> Iterator[NDArray[np.float32]]:
        width = shape_of(features, "the features")[1]
        if width != len(self.mean):
            raise DataError(
                f"the probe reads {len(self.mean)} features, not {width}: they are another encoder's, or of another"
                " place (tower, joint)"
            )
        for _, block in blocks(features, "the features", dtype=np.float32):
            yield ((block - self.mean) / self.std) @ self.weight.T + self.bias


def learning_rates(steps: int, lr: float, warmup: float = 0.1) -> NDArray[np.float64]:
    """Return the learning rate of every step [T], as above."""
    w = int(warmup * steps)
    rising = [lr * i / (w - 1) if w > 1 else 0.0 for i in range(w)]
    falling = [0.5 * lr * (1 + math.cos(math.pi * (i - w) / (steps - w))) for i in range(w, steps)]
    return np.array(rising + falling)


def train_probe(
    features: Rows,
    labels: NDArray[np.int64],
    recipe: Recipe = IMAGENET,
    *,
    classes: int | None = None,
    statistics: Arrays | None = None,
    start: Arrays | None = None,
    order: Iterable[NDArray[np.int64]] | None = None,
    device: str = "cpu",
    advance: Callable[[int], object] = lambda steps: None,
) -> LinearProbe:
    """Train a probe; returned is the layer after the last step.

    With `torch.manual_seed(recipe.seed)` the reference makes nn.Linear, then a DataLoader that shuffles: the same layer
    and rows are drawn here, from a generator of this call's own. Its runs on pseudo-labels draw more before they make
    the layer: `start` and `order` are for such. Memory holds two batches and their logits, whatever N is.

    Args:
        features: [N, d]: an array, mapped or not, or shards of such, as those of a store (`list(store.rows(site))`).
        labels: int64 [N], true or pseudo, in 0 .. C - 1.
        recipe: how.
        classes: C; None: up to the greatest label.
        statistics: mean and deviation [d] to standardise by; None: of these features.
        start: weight [C, d] and bias [C]; None: drawn as nn.Linear does.
        order: the rows of each step; None: as the recipe says.
        device: that computes.
        advance: told how many more steps are done.

    Raises:
        DataError: shapes do not fit, a label is out of range, or a feature is not finite.
    """
    n, width = shape_of(features, "the features")
    labels, classes = _checked_labels(labels, n, classes)
    mean, std = _statistics(features, width, recipe, statistics)
    generator = torch.Generator().manual_seed(recipe.seed)
    weight, bias = _layer(classes, width, generator, start, device)
    if order is None and recipe.mixed is None:
        order = loader_order(n, recipe.batch, generator)
    elif order is None:
        shard = SHARD if isinstance(features, np.ndarray) else len(features[0])
        order = shard_order(n, recipe.batch, shard=shard, mixed=recipe.mixed or 1, seed=recipe.seed)
    lr = recipe.lr * (recipe.batch / 256 if recipe.scale_lr else 1)
    rates = learning_rates(recipe.length(n), lr, recipe.warmup)
    optimiser = _optimiser([weight, bias], recipe)
    room = [np.empty((0, width), np.float32)] * 2

    def read(part: tuple[int, NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Read a step's rows into that one of two buffers which is not in use."""
        step, rows = part
        if len(rows) > len(room[step % 2]):
            room[step % 2] = np.empty((len(rows), width), np.float32)
        batch = room[step % 2][: len(rows)]
        if isinstance(features, np.ndarray) and features.dtype == np.float32:
            np.take(features, rows, axis=0, out=batch, mode="clip")  # any other mode goes through a copy
            taken = batch
        else:
            taken = take(features, rows)
        for first in range(0, len(rows), CACHED):
            some = batch[first : first + CACHED]
            if taken is not batch:  # by torch, which is many times faster than NumPy with half precision
                torch.from_numpy(some).copy_(torch.from_numpy(taken[first : first + CACHED]))
            if recipe.standardise:
                np.divide(np.subtract(some, mean, out=some), std, out=some)
        return torch.from_numpy(batch).to(device), torch.from_numpy(labels[rows]).to(device)

    taken = islice(_checked(order, n), len(rates))
    done = 0
    logits = torch.empty(0, classes, device=device)
    for done, (inputs, targets) in enumerate(ahead(read, enumerate(taken)), 1):
        for group in optimiser.param_groups:
            group["lr"] = rates[done - 1]
        if len(inputs) > len(logits):
            logits = torch.empty(len(inputs), classes, device=device)
        _gradients(weight, bias, inputs, targets, logits[: len(inputs)])
        optimiser.step()
        advance(1)
    if done < len(rates):
        raise DataError(f"the order of rows ends after {done} of {len(rates)} steps")
    return LinearProbe(weight.detach().cpu().numpy(), bias.detach().cpu().numpy(), mean, std)


def _gradients(weight: nn.Parameter, bias: nn.Parameter, inputs: Tensor, targets: Tensor, logits: Tensor) -> None:
    """Put the gradients of the mean cross-entropy into the layer's, in the room of `logits` [B, C].

    By hand what autograd does, without its copies of the logits: the memory of each is fetched anew from the system.
    """
    n = len(inputs)
    assert weight.grad is not None and bias.grad is not None
    with torch.no_grad():
        torch.addmm(bias, inputs, weight.t(), out=logits)
        torch.softmax(logits, 1, out=logits)
        logits[torch.arange(n, device=logits.device), targets] -= 1
        torch.mm(logits.t(), inputs, out=weight.grad).div_(n)
        torch.sum(logits, 0, out=bias.grad).div_(n)


def _layer(
    classes: int, width: int, generator: torch.Generator, start: Arrays | None, device: str
) -> tuple[nn.Parameter, nn.Parameter]:
    """Return weight and bias as nn.Linear draws them, or as `start` has them, with room for gradients."""
    if start is None:
        weight, bias = torch.empty(classes, width), torch.empty(classes)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5), generator=generator)
        nn.init.uniform_(bias, -1 / math.sqrt(width), 1 / math.sqrt(width), generator=generator)
    else:
        weight, bias = (torch.tensor(np.asarray(array), dtype=torch.float32) for array in start)
        if weight.shape != (classes, width) or bias.shape != (classes,):
            raise DataError(
                f"the layer to start from has weights {tuple(weight.shape)} and bias {tuple(bias.shape)}, but there are"
                f" {classes} classes and {width} features"
            )
    made = nn.Parameter(weight.to(device)), nn.Parameter(bias.to(device))
    for parameter in made:
        parameter.grad = torch.zeros_like(parameter)
    return made


def _optimiser(layer: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    lr, decay = recipe.lr, recipe.weight_decay
    if recipe.optimiser == "adam":
        return torch.optim.Adam(layer, lr=lr, weight_decay=decay, fused=True)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(layer, lr=lr, weight_decay=decay, fused=True)
    return torch.optim.SGD(layer, lr=lr, momentum=0.9, nesterov=True, weight_decay=decay, fused=True)


def standardised_by(features: Rows) -> Arrays:
    """Return mean and unbiased deviation [d] of training features; deviation 1 where a dimension does not vary.

    Raises:
        DataError: there are fewer than two images, or a feature is not finite.
    """
    found = standardisation(features)
    std = np.where(found.std <= DEAD * np.abs(found.mean), 1.0, found.std)
    return found.mean.astype(np.float32), std.astype(np.float32)


def _statistics(features: Rows, width: int, recipe: Recipe, given: Arrays | None) -> Arrays:
    """Return mean and deviation to standardise by; in any case every feature has been looked at."""
    if recipe.standardise and given is None:
        return standardised_by(features)
    for _ in blocks(features, "the features", dtype=np.float32):
        pass  # it is checked on the way
    if not recipe.standardise:
        return np.zeros(width, np.float32), np.ones(width, np.float32)
    mean, std = (np.asarray(values, np.float32) for values in given or ())
    if mean.shape != (width,) or std.shape != (width,) or not (std > 0).all():
        raise DataError(f"mean and deviation must be {width} numbers each, deviations above 0")
    return mean, std


def _checked(order: Iterable[NDArray[np.int64]], n: int) -> Iterator[NDArray[np.int64]]:
    for rows in order:
        if len(rows) == 0 or rows.min() < 0 or rows.max() >= n:
            raise DataError(f"a step has no rows, or rows outside of 0 .. {n - 1}")
        yield np.asarray(rows, np.int64)


def _checked_labels(labels: NDArray[np.int64], n: int, classes: int | None) -> tuple[NDArray[np.int64], int]:
    """Return labels [n] and the number of classes, if they fit; tell which classes have no image."""
    labels = check_labels(labels, n, "the labels")
    known = int(labels.max()) + 1
    if classes is not None and known > classes:
        row = int(np.flatnonzero(labels >= classes)[0])
        raise DataError(f"the label of image {row} is {labels[row]}, outside of the {classes} classes")
    counts = np.bincount(labels, minlength=classes or known)
    if (empty := np.flatnonzero(counts == 0)).size:
        log.warning("%d of %d classes have no image to learn from: %s", len(empty), len(counts), empty[:5])
    return labels, len(counts)
