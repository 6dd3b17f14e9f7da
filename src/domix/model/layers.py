"""Names for the places of an image tower where its activations are read, and their reduction to one vector a picture.

Shapes: B batch, C channels, H x W positions of a feature map, L tokens.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

OUTPUT = "output"  # the tower's own result, where no module of its own makes it
STEM = ("act1", "act2", "act3", "avgpool")
# What open_clip and timm call the lists in which a tower's blocks stand: resblocks (ViT), blocks (timm ViT, Swin,
# ConvNeXt, EfficientNet), layers and stages (which may hold `blocks` in turn), layer1 .. layer4 (ResNets).
BLOCK_LIST = re.compile(r"(res)?blocks|layers|stages|layer\d+")


def layer_modules(visual: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of an image tower whose outputs are its layers, by name, in order of depth.

    CLIP's ModifiedResNet: the three stem activations `act1 act2 act3`, `avgpool`, every residual block `layer1.0` ...,
    and `attnpool`, as the reference study lists them (21 for RN50). Any other tower: every block, named by its path,
    then `output`, the tower's embedding.
    """
    from open_clip.modified_resnet import ModifiedResNet

    blocks = _blocks(visual, "")
    if isinstance(visual, ModifiedResNet):
        stem = {name: visual.get_submodule(name) for name in STEM}
        return {**stem, **blocks, "attnpool": visual.get_submodule("attnpool")}
    return {**blocks, OUTPUT: visual}


def _blocks(module: nn.Module, path: str) -> dict[str, nn.Module]:
    """Find the innermost blocks: the members of lists called as BLOCK_LIST says, in the order in which they stand."""
    found: dict[str, nn.Module] = {}
    for name, child in module.named_children():
        inner = _blocks(child, f"{path}{name}.")
        if not inner and BLOCK_LIST.fullmatch(name):
            inner = dict(_members(child, f"{path}{name}"))
        found |= inner
    return found


def _members(container: nn.Module, path: str) -> list[tuple[str, nn.Module]]:
    """List the members of a container of blocks; a member that is a plain sequence stands for its own members."""
    from torch import nn

    if not isinstance(container, (nn.Sequential, nn.ModuleList)):
        return [(path, container)]
    return [pair for name, child in container.named_children() for pair in _members(child, f"{path}.{name}")]


def channels_last(visual: nn.Module) -> bool:
    """Tell whether the tower's feature maps have the shape [B, H, W, C], as timm's Swin and its like do."""
    return any(getattr(module, "output_fmt", None) == "NHWC" for module in visual.modules())


def pool_positions(activation: Any, *, nhwc: bool = False) -> Tensor:
    """Reduce a layer's output to one vector a picture, [B, C]: the mean over positions.

    Feature maps [B, C, H, W] ([B, H, W, C] with `nhwc`) are averaged over H and W, tokens [B, L, C] over all L, class
    token included; [B, C] stays. Of several outputs the first counts.

    Raises:
        DataError: the output has another number of axes.
    """
    while isinstance(activation, (tuple, list)):
        activation = activation[0]
    if activation.ndim == 4:
        return activation.mean(dim=(1, 2) if nhwc else (2, 3))
    if activation.ndim == 3:
        return activation.mean(dim=1)
    if activation.ndim == 2:
        return activation
    raise DataError(f"a layer gives outputs of shape {tuple(activation.shape)}; known are [B,C], [B,L,C] and [B,C,H,W]")
