"""How a model is applied to test images while it trains, leaving no trace in it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

import torch
from torch import Tensor, nn

from domix.encoders.preprocess import square
from domix.train.machine import Precision

BATCH = 128  # images or captions of one pass
LOWER: dict[Precision, torch.dtype] = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Switch every module to evaluation, and back to what it was before."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


def lowered(model: nn.Module, precision: Precision) -> contextlib.AbstractContextManager[object]:
    """Compute on the model's device with the precision of its training."""
    if precision not in LOWER:
        return contextlib.nullcontext()
    return torch.autocast(next(model.parameters()).device.type, LOWER[precision])


def apply(function: Callable[[Tensor], Tensor], images: Tensor, model: nn.Module, *, channels_last: bool) -> Tensor:
    """Return what a function of the model gives for images uint8 [N, 3, S, S]: float32 [N, ...]."""
    device, parts = next(model.parameters()).device, []
    for batch in images.split(BATCH):
        inputs = square(batch.shape[2]).normalise(batch.to(device))
        if channels_last:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        parts.append(function(inputs).float())
    return torch.cat(parts)
