"""What a training step costs: floating-point operations and memory, counted on tensors without contents.

The model's own code runs on PyTorch's meta device, where every operation has shapes and no numbers: what is counted is
what would be computed, recomputed activations included, within milliseconds and without the memory. Multiplications
and additions count one each, and only those of matrix products and convolutions count at all, as is usual.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from domix.model import clip

if TYPE_CHECKING:
    from domix.model.clip import Clip

# Samples in two batches that are counted: their difference shows what grows with the batch. They are large, so that the
# fullest moment is that of a real step, between the passes, and not the backward pass's end with all gradients.
FEW, MORE = 256, 512
USUAL = 3  # a backward pass costs twice a forward pass: the weights' gradients and the activations'
HALF = {"32-true": 1.0, "bf16-mixed": 0.5, "16-mixed": 0.5}  # the share of float32's bytes that activations take


@dataclass(frozen=True)
class Work:
    """What one sample costs a tower, or several.

    Attributes:
        forward: FLOP of the forward pass.
        step: FLOP of forward and backward pass, with what gradient checkpointing computes again.
        nbytes: memory that a further sample takes in float32, at the step's fullest moment.
    """

    forward: float
    step: float
    nbytes: float

    def __add__(self, other: Work) -> Work:
        """Return what both towers cost. Their memory adds up: the second runs while the first's activations wait."""
        return Work(self.forward + other.forward, self.step + other.step, self.nbytes + other.nbytes)

    @property
    def useful(self) -> float:
        """FLOP that a step needs, of which the utilisation of a device is told: three forward passes."""
        return USUAL * self.forward

    def accumulated(self, parts: int) -> Work:
        """Return the cost where the features of a batch are computed in parts: all of them once more beforehand."""
        return self if parts == 1 else Work(self.forward, self.step + self.forward, self.nbytes)


def count(model: nn.Module, function: Callable[[Any, Tensor], Tensor], example: Tensor) -> Work:
    """Count what `function(model, input)` costs for a sample like `example`, [1, ...]; the model stays as it is."""
    few, more = (example.to("meta").expand(samples, *example.shape[1:]) for samples in (FEW, MORE))
    with FlopCounterMode(display=False) as flops:
        forward = _Step(model, function, flops.get_total_flops).run(few)
    most = []
    for inputs in (few, more):
        with _Memory() as memory:  # alone: the other counter holds on to tensors
            _Step(model, function, lambda: 0).run(inputs)
        most.append(memory.peak)
    return Work(forward / FEW, flops.get_total_flops() / FEW, (most[1] - most[0]) / (MORE - FEW))


def clip_work(model: Clip, *, size: int, context: int) -> tuple[Work, Work]:
    """Count the image tower on images of `size` pixels, and the text tower on captions of `context` tokens."""
    image = count(model, lambda tower, images: tower.encode_image(images), torch.empty(1, 3, size, size))
    text = count(model, clip.encode_text, torch.zeros(1, context, dtype=torch.long))
    return image, text


class _Step(nn.Module):
    """A forward and a backward pass, as a module, so that `functional_call` may put other weights into the model."""

    def __init__(self, model: nn.Module, function: Callable[[Any, Tensor], Tensor], between: Callable[[], int]) -> None:
        super().__init__()
        self.model, self.function, self.between = model, function, between

    def run(self, inputs: Tensor) -> int:
        """Compute with weights without contents in the place of the model's own; return what `between` says."""
        named = {**dict(self.named_buffers()), **dict(self.named_parameters())}
        empty = {
            name: tensor.detach().to("meta").requires_grad_(tensor.requires_grad) for name, tensor in named.items()
        }
        return functional_call(self, empty, (inputs,))

    def forward(self, inputs: Tensor) -> int:
        result = self.function(self.model, inputs)
        told = self.between()
        result.sum().backward()  # here, while the other weights are in place: checkpointing computes with them again
        return told


class _Memory(TorchDispatchMode):
    """Adds up the bytes of all results that are alive, and notes the most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._alive:
            return
        self._alive.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self._now -= size


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of the model's weights and buffers: those of a file of them, but for its header."""
    return sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())


def training_bytes(model: nn.Module, work: Work, *, part: int, precision: str, moments: int) -> float:
    """Estimate the memory that training takes on a device which computes `part` samples at once.

    Weights, gradients and the optimiser's `moments` are float32; activations are half as large in lower precision, and
    so are the weights' copies there. Libraries' work space and fragmentation come on top.
    """
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    share = HALF[precision]
    copies = 0.0 if share == 1 else share * weights
    return weights * (2 + moments) + copies + share * work.nbytes * part
