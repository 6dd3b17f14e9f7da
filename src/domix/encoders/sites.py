"""Sites: the places of an image tower where its activations are read, by name, and one vector an image of each.

Shapes: B batch, C channels, H x W positions of a feature map, L tokens.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from domix.runtime.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor, nn

OUTPUT = "output"  # the tower's own result, where no module of its own makes it
STEM = ("act1", "act2", "act3", "avgpool")
# What open_clip and timm call the lists in which a tower's blocks stand: resblocks (ViT), blocks (timm ViT, Swin,
# ConvNeXt, EfficientNet), layers and stages (which may hold `blocks` in turn), layer1 .. layer4 (ResNets).
BLOCK_LIST = re.compile(r"(res)?blocks|layers|stages|layer\d+")


@dataclass(frozen=True)
class Site:
    """A place where activations are read."""

    name: str
    depth: int  # 0 for the first
    width: int  # channels
    kind: Literal["map", "tokens", "vector"]  # [B, C, H, W] (or [B, H, W, C]), [B, L, C], [B, C]


def site_modules(visual: nn.Module) -> dict[str, nn.Module]:
    """Return the modules of an image tower whose outputs are its sites, by name, in order of depth.

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


def find_sites(model: nn.Module, visual: nn.Module, size: tuple[int, int]) -> tuple[Site, ...]:
    """Return the sites of the tower `visual` of a model that reads images of `size`, found by a pass of an empty one.

    A block that this configuration never runs is no site.
    """
    import torch

    kinds: dict[int, Literal["map", "tokens", "vector"]] = {4: "map", 3: "tokens", 2: "vector"}
    nhwc, seen, handles = channels_last(visual), dict[str, tuple[int, int]](), []

    def hook(module: nn.Module, inputs: object, output: Any, name: str) -> None:
        seen[name] = (pool_positions(output, nhwc=nhwc).shape[1], first_of(output).ndim)

    try:
        for name, module in site_modules(visual).items():
            handles.append(module.register_forward_hook(partial(hook, name=name)))
        with torch.inference_mode():
            model(torch.zeros(1, 3, *size, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    known = [name for name in site_modules(visual) if name in seen]
    return tuple(Site(name, depth, seen[name][0], kinds[seen[name][1]]) for depth, name in enumerate(known))


def require_site(name: str, known: Iterable[str]) -> None:
    """Check that a site is one of those `known`.

    Raises:
        DataError: it is not; the sentence names those that are called most alike.
    """
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(names)}"
        raise DataError(f"the model has no site {name!r}: {hint}")


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


def first_of(output: Any) -> Tensor:
    """Return a module's output; of several the first."""
    while isinstance(output, (tuple, list)):
        output = output[0]
    return output


def pool_positions(activation: Any, *, nhwc: bool = False) -> Tensor:
    """Reduce a layer's output to one vector an image, [B, C]: the mean over positions.

    Feature maps [B, C, H, W] ([B, H, W, C] with `nhwc`) are averaged over H and W, tokens [B, L, C] over all L, class
    token included; [B, C] stays. Of several outputs the first counts.

    Raises:
        DataError: the output has another number of axes.
    """
    activation = first_of(activation)
    if activation.ndim == 4:
        return activation.mean(dim=(1, 2) if nhwc else (2, 3))
    if activation.ndim == 3:
        return activation.mean(dim=1)
    if activation.ndim == 2:
        return activation
    raise _unknown(activation)


def position_rows(activation: Any, *, nhwc: bool = False) -> Tensor:
    """Return a layer's output as one vector a position, [B, P, C]; see pool_positions, which averages them.

    Positions of feature maps come row by row (P = H W), tokens as they stand (P = L); a vector is one position.

    Raises:
        DataError: the output has another number of axes.
    """
    activation = first_of(activation)
    if activation.ndim == 4:
        return activation.flatten(1, 2) if nhwc else activation.flatten(2).transpose(1, 2)
    if activation.ndim == 3:
        return activation
    if activation.ndim == 2:
        return activation[:, None]
    raise _unknown(activation)


def _unknown(activation: Tensor) -> DataError:
    shape = tuple(activation.shape)
    return DataError(f"a layer gives outputs of shape {shape}; known are [B,C], [B,L,C] and [B,C,H,W]")
