"""Batch norm over groups of a batch: a large batch on one device trains as smaller ones on several devices do."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domix.runtime.errors import ParameterError


class GroupedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are those of `group` consecutive images each.

    The running statistics follow the first group alone: in a training on several devices, whose parts of a batch the
    groups stand for, those of the first device are kept.
    """

    group: int

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [B, C, H, W]; in training, B must be a multiple of the group."""
        if not self.training or len(input) == self.group:
            return super().forward(input)
        first, *others = input.split(self.group)
        normalised = [super().forward(first)]
        normalised += [F.batch_norm(part, None, None, self.weight, self.bias, True, 0.0, self.eps) for part in others]
        return torch.cat(normalised)


def group_batchnorm(model: nn.Module, group: int) -> None:
    """Let the model's batch norms compute their statistics over `group` images; its state dict stays the same.

    Raises:
        ParameterError: a batch norm of another kind than torch's BatchNorm2d, or a model without any.
    """
    found = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not found:
        raise ParameterError("bn_group is set, but the model has no batch norm: set it to null")
    for module in found:
        if type(module) is not nn.BatchNorm2d:
            kind = type(module).__name__
            raise ParameterError(
                f"bn_group is set, but the model has a {kind}, which cannot be grouped: set it to null"
            )
        module.__class__ = GroupedBatchNorm2d
        module.group = group  # ty: ignore[invalid-assignment] (torch types attributes so)
