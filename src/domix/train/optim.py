"""Optimisers as open_clip sets them up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import SGD, AdamW

EXEMPT = ("bn", "ln", "bias", "logit_scale")


def decays(name: str, dimensions: int) -> bool:
    """Tell whether weight decay applies to a parameter: not to vectors and scalars, nor to norms, biases, the scale."""
    return dimensions >= 2 and not any(part in name for part in EXEMPT)


def betas_and_eps(
    model_name: str, betas: tuple[float, float] | None, eps: float | None
) -> tuple[tuple[float, float], float]:
    """Return AdamW's betas and epsilon: as given, else open_clip's for the model's name (ViTs have their own)."""
    default = ((0.9, 0.98), 1e-6) if "vit" in model_name.lower() else ((0.9, 0.999), 1e-8)
    return betas or default[0], eps if eps is not None else default[1]


def groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the model's weights in two groups, with and without weight decay."""
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    return [
        {"params": [w for name, w in named if decays(name, w.ndim)], "weight_decay": weight_decay},
        {"params": [w for name, w in named if not decays(name, w.ndim)], "weight_decay": 0.0},
    ]


def make_adamw(
    model: nn.Module, *, lr: float, weight_decay: float, betas: tuple[float, float], eps: float, fused: bool = True
) -> AdamW:
    """Make CLIP's optimiser; `fused` makes one pass over the weights instead of one an operation."""
    from torch.optim import AdamW

    return AdamW(groups(model, weight_decay), lr=lr, betas=betas, eps=eps, fused=fused)


def make_sgd(model: nn.Module, *, lr: float, weight_decay: float, momentum: float, fused: bool = True) -> SGD:
    """Make the classifiers' optimiser: SGD with Nesterov momentum."""
    from torch.optim import SGD

    return SGD(groups(model, weight_decay), lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
