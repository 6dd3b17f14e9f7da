"""An image model cut before its last linear layer: features, and the head that makes embeddings or logits of them.

    model                              features                                       head
    CLIP's ViT                         the pooled token after the last norm           the visual projection, no bias
    CLIP's ModifiedResNet              what the attention pool's c_proj reads          c_proj, with bias
    open_clip's timm towers (ConvNeXt) what head.proj or head.mlp reads               that layer, or small network
    classifiers                        what the last linear layer reads               it

A ModifiedResNet has no projection of its own: the attention pool averages its values by attention (as many channels as
the last block has, 2,048 in RN50), and c_proj is the linear layer behind that.

No weight is copied, and the model stays as it is. Shapes: B batch, d features, D embedding or classes.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from domix.model.classifier import Classifier
from domix.runtime.arrays import BLOCK
from domix.runtime.errors import DataError

LINEAR_HEADS = ("head.proj", "head.mlp", "head.pool.proj")  # of open_clip's timm towers; the first that is there


@dataclass(frozen=True)
class SplitModel:
    """A model in two parts: head(tower(images)) is what the whole gives, up to rounding."""

    tower: nn.Module  # images [B, 3, H, W] -> features [B, d]
    head: nn.Module  # features [B, d] -> [B, D]; nn.Identity where there is nothing behind the features

    def project(self, features: NDArray) -> NDArray[np.float32]:
        """Return the joint embeddings, or logits, of features [N, d]: float32 [N, D]."""
        head = copy.deepcopy(self.head).float().cpu()
        with torch.inference_mode():
            parts = [
                head(torch.from_numpy(np.array(features[first : first + BLOCK], np.float32))).numpy()
                for first in range(0, len(features), BLOCK)
            ]
        return np.concatenate(parts)

    def linear(self) -> tuple[NDArray[np.float32], NDArray[np.float32] | None] | None:
        """Return the head as a matrix P [d, D] and a bias [D], or none: x P + bias; None for nn.Identity.

        Raises:
            DataError: the head is a network with layers of its own.
        """
        if isinstance(self.head, nn.Identity):
            return None
        if not isinstance(self.head, nn.Linear):
            raise DataError("the model's head is a small network, no matrix: project its features with it instead")
        bias = self.head.bias
        return (
            self.head.weight.detach().float().cpu().numpy().T,
            None if bias is None else bias.detach().float().cpu().numpy(),
        )


def split_clip(visual: nn.Module) -> SplitModel:
    """Cut the image tower of a CLIP model, as the table above says.

    Raises:
        DataError: the tower is of a kind that is not known here.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import VisionTransformer

    if isinstance(visual, VisionTransformer):
        if visual.proj is None:
            return SplitModel(visual, nn.Identity())
        return SplitModel(_with(visual, "proj", None), _linear(visual.proj.T))
    if isinstance(visual, ModifiedResNet):
        head = visual.get_submodule("attnpool.c_proj")
        assert isinstance(head, nn.Linear)
        # The pool reads c_proj's weight without calling it; the unit matrix changes no number.
        return SplitModel(_with(visual, "attnpool.c_proj", _linear(torch.eye(head.in_features))), head)
    if isinstance(visual, TimmModel):
        modules = dict(visual.named_modules())
        place = next((path for path in LINEAR_HEADS if path in modules), None)
        if place is not None:
            return SplitModel(_with(visual, place, nn.Identity()), modules[place])
        return split_timm(visual.trunk)
    raise DataError(f"an image tower of the kind {type(visual).__name__} cannot be cut before its projection")


def split_classifier(model: Classifier) -> SplitModel:
    """Cut a classifier of Domix's.

    Raises:
        DataError: its head is no linear layer.
    """
    if isinstance(head := getattr(model, "head", None), nn.Linear):
        return SplitModel(_with(model, "head", nn.Identity()), head)
    return split_timm(model.visual)


def split_timm(model: nn.Module) -> SplitModel:
    """Cut one of timm's models; one that was made without a head has nn.Identity.

    Raises:
        DataError: its head is no linear layer.
    """
    known: Any = model
    head = known.get_classifier()
    if isinstance(head, nn.Identity):
        return SplitModel(model, head)
    if not isinstance(head, nn.Linear):
        raise DataError(f"the head of {type(model).__name__} is {type(head).__name__}, no linear layer")
    path = next(path for path, module in model.named_modules() if module is head)
    return SplitModel(_PreLogits(_with(model, path, nn.Identity())), head)


def split_last_linear(model: nn.Module) -> SplitModel:
    """Cut a classifier of torchvision's before its last linear layer.

    Raises:
        DataError: it has none.
    """
    path = last_linear(model)
    return SplitModel(_with(model, path, nn.Identity()), model.get_submodule(path))


def last_linear(model: nn.Module) -> str:
    """Return the path of a model's last linear layer.

    Raises:
        DataError: it has none.
    """
    paths = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not paths:
        raise DataError(f"{type(model).__name__} has no linear layer at its end, and so no head")
    return paths[-1]


class _PreLogits(nn.Module):
    """What the head of one of timm's models reads."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.visual: Any = model

    def forward(self, images: Tensor) -> Tensor:
        return self.visual.forward_head(self.visual.forward_features(images), pre_logits=True)


def _linear(weight: Tensor) -> nn.Linear:
    """Return a layer with these weights [D, d] and no bias."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return layer


def _with(module: nn.Module, path: str, part: nn.Module | None) -> nn.Module:
    """Return a twin of a module, of the same weights, that has another part at `path`; None takes a weight away."""
    name, _, rest = path.partition(".")
    twin = copy.copy(module)
    twin._modules, twin._parameters = dict(module._modules), dict(module._parameters)
    twin._forward_hooks, twin._forward_pre_hooks = OrderedDict(), OrderedDict()
    if rest:
        twin._modules[name] = _with(module.get_submodule(name), rest, part)
    elif part is None:
        twin._parameters[name] = None
    else:
        twin._modules[name] = part
    return twin
